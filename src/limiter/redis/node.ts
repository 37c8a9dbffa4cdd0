import type { LossReason } from '../outage.js'
import { linkOf } from './cluster.js'
import type { Redis } from './ioredis.js'
import type { OnReply } from './reply-queue.js'
import type { RespValue } from './resp-reader.js'
import { type Client, evalOf, evalshaOf, isNoScript, runCall, type ScriptCall } from './run-script.js'
import { settleCall, takeCall, takeMixedCall } from './scripts.js'
import { createTakeConnection, type TakeConnection } from './take-connection.js'

/**
 * One Redis server: its health, its clock, and the way to it.
 *
 * The breaker begins open and closes when a probe is answered in time, so that no decision is sent to a server whose
 * clock is unknown. It opens when the connection closes, after three misses, each of them forgiven by ten answers, or
 * when at least half of the last second's calls were slow. While it is open, one probe at a time is sent, and no
 * decision.
 */
export type Shard = ReturnType<typeof createShard>

export interface ShardOptions {
  readonly node: Redis
  /** Client that finds the server of a key: the Cluster of the node, or the node itself. */
  readonly client: Client
  /**
   * True if calls of `send` take a connection of their own, beside that of `node`. False: they take that of `client`. A
   * node of a Cluster that has a link has no other connection.
   */
  readonly ownConnection: boolean
  /** How long a decision waits for the store, in ms. */
  readonly timeoutMs: number
  /** Called when the state changes. `reason`: why the server is not up any more. */
  readonly onChange: (isUp: boolean, reason?: LossReason) => void
  /** Called when a connected server answers probes with an error: a right may be missing, or memory. */
  readonly onRefusal: (error: unknown) => void
}

const MISSES_TO_OPEN = 3
const FORGIVEN_PER_ANSWER = 0.1
/** Share of the timeout from which a call counts as slow. */
const SLOW = 0.5
/** Calls needed to judge a server. Fewer say nothing. */
const CALLS_TO_JUDGE = 20
const SLOW_TO_OPEN = 0.5
/** Period over which calls are counted, in ms: at least this, at most twice as long. */
const CALLS_SAMPLE_MS = 500
/** Interval between probes, with jitter, in ms: a hundred gateways must not probe in step. */
const PROBE_EVERY = 200
const PROBE_JITTER = 300
/**
 * Shortest time without any answer after which a connection is given up, in ms: the peer may have vanished silently.
 */
const DEAD_AFTER = 2000
/** Looks in a row at which a connection has stayed silent, though it was asked at the first, until it is given up. */
const GIVEN_UP_AFTER = 3
/** Matches errors of a Cluster that name the server to ask. */
const REDIRECTION = /^(MOVED|ASK) /

export function createShard(options: ShardOptions) {
  const { node, client, timeoutMs, onChange, onRefusal } = options
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
  /** Bytes that had come on the connection of `node` at the latest look, and looks since at which there were no more. */
  let heard = -1
  let silent = 0
  const deadAfter = Math.max(DEAD_AFTER, 2 * timeoutMs)
  const isCluster = client !== node
  const link = linkOf(node)
  const events = { onReady: probe, onLost: lost }
  link?.watch(events)
  const own = link ?? (options.ownConnection ? createTakeConnection(node, events) : undefined)

  /** Sends a call to this server. */
  function ask(call: ScriptCall, onReply: OnReply): void {
    if (own === undefined) through(node, call, onReply)
    else askOwn(own, call, onReply)
  }

  function askOwn(own: TakeConnection, call: ScriptCall, onReply: OnReply): void {
    own.send(evalshaOf(call), (error, reply) => {
      if (error === undefined) onReply(undefined, reply)
      else if (!isNoScript(error)) refused(call, error, onReply)
      else {
        own.send(evalOf(call), (error, reply) => {
          if (error === undefined) onReply(undefined, reply)
          else refused(call, error, onReply)
        })
      }
    })
  }

  function refused(call: ScriptCall, error: Error, onReply: OnReply): void {
    // ioredis learns from it who has the slot, and follows once.
    if (isCluster && REDIRECTION.test(error.message)) {
      through(client, call, onReply)
      return
    }
    // A primary that has become a replica: ioredis finds the new one.
    if (error.message.startsWith('READONLY')) giveUp()
    onReply(error, undefined)
  }

  /** Returns true if the connection for everything but decisions is ready. */
  function isReady(): boolean {
    return link === undefined ? node.status === 'ready' : link.isReady()
  }

  function isConnected(): boolean {
    return isReady() && own?.isReady() !== false
  }

  /** Closes the connections, and makes new ones. */
  function giveUp(): void {
    if (link === undefined) node.disconnect(true)
    else link.reset()
  }

  function schedule(): void {
    clearTimeout(timer)
    timer = setTimeout(probe, PROBE_EVERY + Math.random() * PROBE_JITTER).unref()
  }

  function probe(): void {
    if (up || closed) return
    schedule()
    const now = performance.now()
    if (link !== undefined) link.open()
    else if (node.status === 'wait') node.connect().catch(() => {})
    handshakeSeen = node.status === 'connect' ? (handshakeSeen ?? now) : undefined
    if (now - (probeSent ?? handshakeSeen ?? now) > deadAfter) {
      giveUp()
      return
    }
    if (!isConnected() || probeSent !== undefined) return
    probeSent = now
    const clockThen = clock.at(now)
    // A new server gets the other scripts first: a script that must be sent again is overtaken by the commands after
    // it.
    if (!loaded) {
      loaded = true
      ask(settleCall([], 0), () => {})
      ask(takeMixedCall([], 0, 0), () => {})
    }
    // It runs no script with a key while its Cluster is down, and scripts without one.
    const refuses = isCluster ? node.cluster('INFO').then(isClusterDown, () => false) : undefined
    // A take of nothing. It proves that scripts run, loads the script if necessary, waits in the same queue as
    // decisions (a PING passes a CLIENT PAUSE WRITE), and returns the time.
    ask(takeCall([], 0, 0), (error, reply) => {
      probeSent = undefined
      if (error !== undefined) {
        if (!closed && isConnected()) onRefusal(error)
        return
      }
      const took = performance.now() - now
      const serverNow: unknown = Array.isArray(reply) ? reply[0] : undefined
      if (typeof serverNow !== 'number' || !Number.isSafeInteger(serverNow)) {
        if (!closed) onRefusal(new Error('its reply is not a time'))
        return
      }
      if (took > timeoutMs) return
      // Fast by our clock or by the server's: ours includes the time during which our event loop may have been
      // blocked.
      const least = Math.min(took, Math.abs(serverNow - clockThen))
      if (recovering && least > SLOW * timeoutMs) return
      if (refuses === undefined) recover(serverNow, now)
      else {
        refuses.then((refuses) => {
          if (!isConnected()) return
          if (!refuses) recover(serverNow, now)
          else if (!closed) onRefusal(new Error('CLUSTERDOWN The cluster is down'))
        })
      }
    })
  }

  function recover(serverNow: number, sentAt: number): void {
    if (closed || up) return
    clock.learn(serverNow, sentAt)
    slowness.restart()
    up = true
    // After an outage, one more miss opens the breaker at once, until answers have earned it credit.
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

  function bytesRead(): number {
    return link === undefined ? node.stream.bytesRead : link.bytesRead()
  }

  /**
   * Asks a silent connection whether it is alive: no probe proves that of `node` where decisions take another one, and none
   * is sent while the server is up. Between the timer and giving it up, the sockets are read: our own event loop may have
   * been blocked.
   */
  function watch(): void {
    const bytes = isReady() ? bytesRead() : -1
    silent = bytes === heard && bytes >= 0 ? silent + 1 : 0
    heard = bytes
    if (silent === 1) node.ping().catch(() => {})
    else if (silent === GIVEN_UP_AFTER) {
      setImmediate(() => {
        if (!closed && isReady() && bytesRead() === heard) giveUp()
      })
    }
  }

  const watching = own === undefined ? undefined : setInterval(watch, deadAfter / 2).unref()
  node.on('ready', probe)
  node.on('close', lost)
  schedule()
  probe()

  return {
    isUp: (): boolean => up,
    /**
     * Returns the unix ms by the server's clock after which a call must not charge any more.
     *
     * @param sentAt `performance.now()` from which the call is waited for
     */
    deadline: (sentAt: number = performance.now()): number => clock.at(sentAt + timeoutMs),
    /**
     * Records a call that was answered in time.
     *
     * @param serverNow clock reading in the reply
     * @param sentAt `performance.now()` when it was sent; undefined if the reading is not by the server's clock
     */
    answered(serverNow: number, sentAt: number | undefined): void {
      misses = Math.max(0, misses - FORGIVEN_PER_ANSWER)
      if (sentAt === undefined) return
      clock.learn(serverNow, sentAt)
      if (slowness.tooMuchAfter(sentAt, serverNow - clock.at(sentAt) > SLOW * timeoutMs)) open('slow')
    },
    missed(): void {
      misses++
      if (misses >= MISSES_TO_OPEN) open('timeouts')
    },
    /**
     * Sends a call. Calls reach the server in this order, unless it answers NOSCRIPT, MOVED or ASK: then nothing has run, and
     * the call is sent once more.
     *
     * @param onReply called once, maybe before `send` returns
     */
    send(call: ScriptCall, onReply: OnReply): void {
      if (own?.isReady() === true) askOwn(own, call, onReply)
      else through(client, call, onReply)
    },
    /** Gathers calls until `uncork`, which sends them in one write. */
    cork(): void {
      if (own === undefined) node.stream?.cork()
      else own.cork()
    },
    uncork(): void {
      if (own === undefined) node.stream?.uncork()
      else own.uncork()
    },
    /** Stops probing, and closes the own connection after what was sent. */
    close(): void {
      closed = true
      clearTimeout(timer)
      clearInterval(watching)
      own?.close()
      node.off('ready', probe)
      node.off('close', lost)
    },
  }
}

/** @param info reply to CLUSTER INFO */
function isClusterDown(info: unknown): boolean {
  return String(info).includes('cluster_state:fail')
}

/** Sends a call through ioredis. */
function through(client: Client, call: ScriptCall, onReply: OnReply): void {
  runCall(client, call).then(
    (reply) => onReply(undefined, reply as RespValue),
    (error: Error) => onReply(error, undefined),
  )
}

/**
 * Detects that too many of the recent calls were slow. Calls sent within a millisecond are one observation, the first
 * of them: a server that works off a burst is busy, not slow.
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
    /**
     * Records a call, and returns true if too many are slow.
     *
     * @param sentAt `performance.now()` when the call was sent
     */
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
 * Estimates the server's clock from our own (monotonic) one. A reading in a reply was taken between sending and
 * reading, which bounds the difference of the two on both sides. The estimate changes only if a reply contradicts it.
 * So it is behind the server's clock by the fastest way back seen, and ahead at most by the way there of the latest
 * reply. This follows a clock that drifts or has stepped back. A reply that was read late, because our event loop was
 * blocked, does no harm.
 */
function createServerClock() {
  let difference = Number.NEGATIVE_INFINITY
  return {
    learn(serverNow: number, sentAt: number): void {
      difference = Math.max(difference, serverNow - performance.now())
      // The reading is truncated to whole milliseconds.
      if (difference > serverNow + 1 - sentAt) difference = serverNow - sentAt
    },
    /**
     * Returns the server's time.
     *
     * @param local ms of `performance.now()`
     */
    at: (local: number): number => Math.floor(local + difference),
  }
}
