const cell = new Int32Array(new SharedArrayBuffer(4))

/** Holds the event loop up for `ms`, without a core's time: others need it. */
export function stall(ms: number): void {
  Atomics.wait(cell, 0, 0, ms)
}
