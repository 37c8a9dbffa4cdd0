import type { Redis } from 'ioredis'
import { runTake } from './scripts.js'

/**
 * One Redis server as the limiter sees it: is it well, and what time is it there.
 *
 * The breaker begins open and closes when a probe is answered in time, so no decision is sent to a server whose
 * clock is not known yet. It opens when the connection closes, or after three misses, each of them forgiven by ten
 * answers. While it is open one probe at a time is under way, and no decision.
 */
export interface Shard {
  isUp(): boolean
  /** Unix ms by the server's clock after which a call that is sent now must not charge any more. */
  deadline(): number
  /** A call was answered in time; `serverNow` is the clock reading in its reply. */
  answered(serverNow: number): void
  missed(): void
  close(): void
}

export interface ShardOptions {
  readonly node: Redis
  /** Ms that a decision waits for the store. */
  readonly timeoutMs: number
  readonly onChange: (isUp: boolean) => void
}

const MISSES_TO_OPEN = 3
const FORGIVEN_PER_ANSWER = 0.1
/** Ms, with jitter: so that a hundred gateways don't knock in step. */
const PROBE_EVERY = 200
const PROBE_JITTER = 300
/** Ms without any answer, at least, after which a connection is given up: the peer may have vanished unheard. */
const DEAD_AFTER = 2000
/** Ms for which a clock sample counts at least; twice that at most. */
const CLOCK_SAMPLE_MS = 1000

export function createShard({ node, timeoutMs, onChange }: ShardOptions): Shard {
  const clock = createServerClock()
  let up = false
  let closed = false
  let misses = 0
  let recovering = false
  let timer: NodeJS.Timeout | undefined
  let probeSent: number | undefined
  let handshakeSeen: number | undefined

  function schedule(): void {
    clearTimeout(timer)
    timer = setTimeout(probe, PROBE_EVERY + Math.random() * PROBE_JITTER)
    timer.unref()
  }

  function probe(): void {
    if (up || closed) return
    schedule()
    const now = performance.now()
    if (node.status === 'wait') node.connect().catch(() => {})
    handshakeSeen = node.status === 'connect' ? (handshakeSeen ?? now) : undefined
    if (now - (probeSent ?? handshakeSeen ?? now) > Math.max(DEAD_AFTER, 2 * timeoutMs)) {
      node.disconnect(true)
      return
    }
    if (node.status !== 'ready' || probeSent !== undefined) return
    probeSent = now
    // A take of nothing: it proves that scripts run, loads the script if need be, stands in the same queue as
    // decisions (a PING passes a CLIENT PAUSE WRITE), and tells the time.
    runTake(node, [], 0, 0).then(
      ([serverNow]) => {
        const inTime = performance.now() - now <= timeoutMs
        probeSent = undefined
        if (inTime && serverNow !== undefined) recover(serverNow)
      },
      () => {
        probeSent = undefined
      },
    )
  }

  function recover(serverNow: number): void {
    if (closed || up) return
    clock.restart(serverNow)
    up = true
    // After an outage one more miss opens it again at once, until answers have earned it credit.
    misses = recovering ? MISSES_TO_OPEN - 1 : 0
    recovering = true
    clearTimeout(timer)
    onChange(true)
  }

  function open(): void {
    if (closed || !up) return
    up = false
    schedule()
    onChange(false)
  }

  node.on('ready', probe)
  node.on('close', open)
  schedule()
  probe()

  return {
    isUp: () => up,
    deadline: () => clock.at(performance.now() + timeoutMs),
    answered(serverNow) {
      misses = Math.max(0, misses - FORGIVEN_PER_ANSWER)
      clock.learn(serverNow)
    },
    missed() {
      misses++
      if (misses >= MISSES_TO_OPEN) open()
    },
    close() {
      closed = true
      clearTimeout(timer)
      node.off('ready', probe)
      node.off('close', open)
    },
  }
}

/**
 * The server's clock, never ahead of it: a reading in a reply is at least as old as its way back, so the greatest
 * difference to our own (monotonic) clock among the recent readings is the closest from below. A deadline reckoned
 * with it can be early by a round trip, never late.
 */
function createServerClock() {
  let recent = Number.NEGATIVE_INFINITY
  let older = Number.NEGATIVE_INFINITY
  let since = 0
  return {
    restart(serverNow: number): void {
      since = performance.now()
      recent = serverNow - since
      older = recent
    },
    learn(serverNow: number): void {
      const now = performance.now()
      const difference = serverNow - now
      if (now - since > CLOCK_SAMPLE_MS) {
        older = recent
        recent = difference
        since = now
      } else if (difference > recent) recent = difference
    },
    /** @param local ms of `performance.now()` */
    at: (local: number): number => Math.floor(local + Math.max(recent, older)),
  }
}
