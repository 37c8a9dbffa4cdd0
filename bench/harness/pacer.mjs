/**
 * Wakes the load generator when the next request is due. Timers of the event loop are a whole millisecond coarse;
 * a futex is not, and sleeping on one leaves the core to the upstream and Redis, which a spinning loop would not.
 */
import { parentPort, workerData } from 'node:worker_threads'

const { intervalMs, startAt, count, stopped } = workerData
const never = new Int32Array(new SharedArrayBuffer(4))
// The two threads' clocks differ by when they began.
const now = () => performance.timeOrigin + performance.now()

for (let i = 0; i < count && stopped[0] === 0; i++) {
  const wait = startAt + i * intervalMs - now()
  // One message serves all that is due by then: after a stall there is no point in sending the missed ones.
  if (wait <= 0 && i < count - 1) continue
  if (wait > 0) Atomics.wait(never, 0, 0, wait)
  parentPort.postMessage(0)
}
