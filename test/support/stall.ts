const cell = new Int32Array(new SharedArrayBuffer(4))

/** Blocks the event loop for `ms` without using CPU, which others need. */
export function stall(ms: number): void {
  Atomics.wait(cell, 0, 0, ms)
}
