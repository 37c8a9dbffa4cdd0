import type { Redis } from 'ioredis'
import type { LossReason } from '../outage.js'
import { runSettle, runTake, runTakeMixed } from './scripts.js'

/**
 * One Redis server as the limiter sees it: is it well, and what time is it there.
 *
 * The breaker begins open and closes when a probe is answered in time, so no decision is sent to a server whose
 * clock is not known yet. It opens when the connection closes, after three misses, each of them forgiven by ten
 * answers, or when at least half of the last second's calls were slow. While it is open one probe at a time is under
 * way, and no decision.
 */
export interface Shard {
  isUp(): boolean
  /**
   * Unix ms by the server's clock after which a call must not charge any more.
   *
   * @param sentAt `performance.now()` from which the call is waited for
   */
  deadline(sentAt?: number): number
  /**
   * A call was answered in time.
   *
   * @param serverNow the clock reading in its reply
   * @param sentAt `performance.now()` when it was sent; undefined: by a clock that is not the server's
   */
  answered(serverNow: number, sentAt: number | undefined): void
  missed(): void
  close(): void
}

export interface ShardOptions {
  readonly node: Redis
  /** Ms that a decision waits for the store. */
  readonly timeoutMs: number
  /** `reason`: why it is not up any more. */
  readonly onChange: (isUp: boolean, reason?: LossReason) => void
  /** A server that is connected answers probes with an error: a right may be missing, or memory. */
  readonly onRefusal: (error: unknown) => void
}

const MISSES_TO_OPEN = 3
const FORGIVEN_PER_ANSWER = 0.1
/** Of the timeout: a call that takes longer is slow. */
const SLOW = 0.5
/** Fewer calls than that say nothing about a server. */
const CALLS_TO_JUDGE = 20
const SLOW_TO_OPEN = 0.5
/** Ms for which calls count at least; twice that at most. */
const CALLS_SAMPLE_MS = 500
/** Ms, with jitter: so that a hundred gateways don't knock in step. */
const PROBE_EVERY = 200
const PROBE_JITTER = 300
/** Ms without any answer, at least, after which a connection is given up: the peer may have vanished unheard. */
const DEAD_AFTER = 2000

export function createShard({ node, timeoutMs, onChange, onRefusal }: ShardOptions): Shard {
  const clock = createServerClock()
  const slowness = createSlowness()
  let up = false
  let closed = false
  let loaded = false
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
    const clockThen = clock.at(now)
    // A new server gets the other scripts first: one that has to be sent again is overtaken by what follows it.
    if (!loaded) {
      loaded = true
      runSettle(node, [], 0).catch(() => {})
      runTakeMixed(node, [], 0, 0).catch(() => {})
    }
    // A take of nothing: it proves that scripts run, loads the script if need be, stands in the same queue as
    // decisions (a PING passes a CLIENT PAUSE WRITE), and tells the time.
    runTake(node, [], 0, 0).then(
      (reply: unknown) => {
        const took = performance.now() - now
        probeSent = undefined
        const serverNow: unknown = Array.isArray(reply) ? reply[0] : undefined
        if (typeof serverNow !== 'number' || !Number.isSafeInteger(serverNow)) {
          if (!closed) onRefusal(new Error('it answers with something that is no time'))
          return
        }
        if (took > timeoutMs) return
        // Fast by our clock, or by the server's: ours has the time in it that our event loop may have stood still.
        const least = Math.min(took, Math.abs(serverNow - clockThen))
        if (!recovering || least <= SLOW * timeoutMs) recover(serverNow, now)
      },
      (error: unknown) => {
        probeSent = undefined
        if (!closed && node.status === 'ready') onRefusal(error)
      },
    )
  }

  function recover(serverNow: number, sentAt: number): void {
    if (closed || up) return
    clock.learn(serverNow, sentAt)
    slowness.restart()
    up = true
    // After an outage one more miss opens it again at once, until answers have earned it credit.
    misses = recovering ? MISSES_TO_OPEN - 1 : 0
    recovering = true
    clearTimeout(timer)
    onChange(true)
  }

  function lost(): void {
    loaded = false
    open('connection')
  }

  function open(reason: LossReason): void {
    if (closed || !up) return
    up = false
    schedule()
    onChange(false, reason)
  }

  node.on('ready', probe)
  node.on('close', lost)
  schedule()
  probe()

  return {
    isUp: () => up,
    deadline: (sentAt = performance.now()) => clock.at(sentAt + timeoutMs),
    answered(serverNow, sentAt) {
      misses = Math.max(0, misses - FORGIVEN_PER_ANSWER)
      if (sentAt === undefined) return
      clock.learn(serverNow, sentAt)
      if (slowness.tooMuchAfter(sentAt, serverNow - clock.at(sentAt) > SLOW * timeoutMs)) open('slow')
    },
    missed() {
      misses++
      if (misses >= MISSES_TO_OPEN) open('timeouts')
    },
    close() {
      closed = true
      clearTimeout(timer)
      node.off('ready', probe)
      node.off('close', lost)
    },
  }
}

/**
 * Whether too many of the recent calls were slow. Calls that went out within a millisecond are one observation,
 * the first of them: a server that works off a burst is busy, not slow.
 */
function createSlowness() {
  let calls = 0
  let slow = 0
  let callsBefore = 0
  let slowBefore = 0
  let since = 0
  let latest = 0
  return {
    restart(): void {
      since = performance.now()
      calls = slow = callsBefore = slowBefore = 0
    },
    /** @param sentAt `performance.now()` when the call was sent */
    tooMuchAfter(sentAt: number, isSlow: boolean): boolean {
      if (Math.abs(sentAt - latest) < 1) return false
      latest = sentAt
      const now = performance.now()
      const passed = now - since
      if (passed > CALLS_SAMPLE_MS) {
        const gap = passed > 2 * CALLS_SAMPLE_MS
        callsBefore = gap ? 0 : calls
        slowBefore = gap ? 0 : slow
        calls = slow = 0
        since = now
      }
      calls++
      if (isSlow) slow++
      const all = calls + callsBefore
      return all >= CALLS_TO_JUDGE && slow + slowBefore >= SLOW_TO_OPEN * all
    },
  }
}

/**
 * The server's clock by our own (monotonic) one. A reading in a reply was taken between sending and reading, which
 * bounds the difference of the two on both sides; what is kept changes only where a reply contradicts it. So it is
 * behind the server's clock by the fastest way back that was seen, ahead at most by the way there of the latest
 * reply, which takes a clock that drifts or has stepped back; and a reply that was read late, because our event loop
 * stood still, teaches nothing wrong.
 */
function createServerClock() {
  let difference = Number.NEGATIVE_INFINITY
  return {
    learn(serverNow: number, sentAt: number): void {
      difference = Math.max(difference, serverNow - performance.now())
      // The reading is cut to whole milliseconds.
      if (difference > serverNow + 1 - sentAt) difference = serverNow - sentAt
    },
    /** @param local ms of `performance.now()` */
    at: (local: number): number => Math.floor(local + difference),
  }
}
