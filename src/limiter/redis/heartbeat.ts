import { randomUUID } from 'node:crypto'
import { channelOf } from './connect.js'
import { Cluster } from './ioredis.js'
import type { Client } from './run-script.js'
import { type HeartbeatReply, runAnnounce, runHeartbeat } from './scripts.js'
import { askStore } from './store-timeout.js'

/**
 * Tells what the other gateways announce: names of maps that they are about to change. It also says that this one lives
 * and what it is doing.
 *
 * It says so every 2.3 s. The first gateway that does in any half second runs a script, which lets the server send a tick to
 * all: how many gateways live, and how far the announcements are. The others then need only say that they live. A
 * gateway that hears no tick in time reads all that itself.
 */
export type Heartbeat = ReturnType<typeof createHeartbeat>

/** Gateway that is alive. */
export interface Member {
  /** Random id of the process. */
  readonly id: string
  /** What it set with `setStatus`; undefined if it set nothing. */
  readonly status: string | undefined
  /** What it set with `setShards`; undefined if it reads no such maps. */
  readonly shards: number | undefined
  /** True if its version has no such heartbeat: it announces no changes and knows no layout. */
  readonly older: boolean
}

/** Status of a process that only uses the limiter library: it is no gateway. */
export const LIBRARY_STATUS = 'library'

/** What the heartbeat stores, one slot of a Cluster. */
export const HEARTBEAT_KEYS = {
  gateways: 'nodes:{gateways}',
  members: 'nodes:{gateways}:members',
  status: 'nodes:{gateways}:status',
  changes: 'nodes:{gateways}:changes',
  layout: 'nodes:{gateways}:layout',
} as const

const KEYS = Object.values(HEARTBEAT_KEYS)
const CHANGES = HEARTBEAT_KEYS.changes

/**
 * How old a gateway's knowledge of the announcements may be before it reads them, in ms, evenly spread. A change whose
 * message got lost is in force a little later. Ticks come more often than that. Where all gateways stop hearing them at
 * once, they must not all read at once.
 */
const READ_MIN = 600
const READ_SPREAD = 200
/** Interval between heartbeats that say that the gateway lives, in ms, evenly spread. */
const BEAT_MIN = 2200
const BEAT_SPREAD = 200
/** Time over which gateways that hear of announcements by the same tick ask for their names, in ms. */
const ASK_SPREAD = 100
/** Message of `lua/heartbeat.lua`. */
const TICK = /^(\d{1,16}(?: \d{1,16}){4}) (.*)$/s
/** Age of a tick above which it is ignored, in ms: a connection that is behind must not stop this gateway from reading. */
const TICK_LATE = 500
/** Ticks that say little more than is known are ignored, in ms. This bounds what a flood of them can do. */
const TICK_NEWER = 100
/** Interval between ticks, in ms, as `lua/heartbeat.lua` has it. */
const TICK_EVERY = 500
/** How long the server's clock is computed from one answer, in ms, and how wrong that may be in the end. */
const CLOCK_FOR = 60_000
const CLOCK_ERROR = 10
/** How long a heartbeat is valid, in ms: two that say that the gateway lives may be lost before it counts as dead. */
const BELIEVED_FOR = 8000
/** How long a heartbeat waits for its answer, in ms. */
const TIMEOUT = 1000
/** Age of the latest answer above which the heartbeat does not report every change, in ms. */
const STALE = READ_MIN + READ_SPREAD + TIMEOUT
/**
 * Number of answered heartbeats and ticks that repeat a name, and the shortest time between two that count, in ms. A
 * change may come up to its time limit after its announcement, and an announcement is not made again for ANNOUNCED_FOR.
 * Heartbeats, not ms alone: while the store hangs, none is answered.
 */
const REPEATS = 6
const REPEAT_GAP = 500
/** How long an announcement covers further changes of the same name, in ms. */
const ANNOUNCED_FOR = 1000
/** Longest wait when leaving, in ms: a store that hangs must not keep a gateway from stopping. */
const LEAVE_TIMEOUT = 500
const PAGE = 500
/** Most live processes: any client with access to the store may write names. */
const MOST_MEMBERS = 10_000

export interface HeartbeatOptions {
  /** True (the default) if this process decides on requests, and so is one of the gateways that are counted. */
  readonly decides?: boolean
  /** Id of this process. */
  readonly self?: string
}

/** Begins to send heartbeats in the background, as soon as the store is connected. */
export function createHeartbeat(store: Client, options: HeartbeatOptions = {}) {
  const { decides = true, self = randomUUID().slice(0, 13) } = options
  const channel = channelOf(store, 'nodes:tick')
  const listeners = new Set<(names: ReadonlySet<string>, all: boolean) => void>()
  const beatListeners = new Set<(at: number | undefined) => void>()
  const layoutListeners: ((layout: string) => void)[] = []
  /** Latest answer; undefined after a heartbeat that failed, and before the first. */
  let latest: HeartbeatReply | undefined
  let count = 1
  let layout: string | undefined
  let answeredAt = 0
  /** `performance.now()` at which the latest answered heartbeat was sent. */
  let sentAt = Number.NEGATIVE_INFINITY
  /** Server's unix ms in the latest answer of the script, and the `performance.now()` at which that was asked for. */
  let clock = { at: 0, sent: 0 }
  /** True if the next heartbeat has to ask for names. */
  let asks = false
  /** When the latest tick was made (`performance.now()`). */
  let tickedAt = Number.NEGATIVE_INFINITY
  /** When `lately` was counted down (`performance.now()`). */
  let countedAt = Number.NEGATIVE_INFINITY
  /** Number up to which announcements are known; undefined before the first answer. */
  let seen: number | undefined
  /** Names that were announced lately, with the number of heartbeats that still repeat them. */
  const lately = new Map<string, number>()
  /** Names to announce with the next heartbeat. */
  const waiting = new Set<string>()
  /** When names were announced, by `performance.now()`. */
  const announced = new Map<string, number>()
  let announcing: Promise<void> | undefined
  let status = ''
  let shards = ''
  /** Status that the store has, as far as is known. */
  let written = ''
  /** When the next heartbeat says that the gateway lives, and when it reads the announcements (`performance.now()`). */
  let beatAt = 0
  let readAt = 0
  let timer: NodeJS.Timeout | undefined
  let begun = false
  let closed = false

  async function beat(): Promise<void> {
    const sent = performance.now()
    const at = Date.now()
    const before = latest
    const isDue = sent > beatAt - READ_MIN / 2
    if (before === undefined || waiting.size > 0) return sayAll()
    if (isDue) return needsScript(sent) ? sayAll() : sayAlive(sent)
    readLater(sent)
    try {
      const [sequence, since] = await askStore(TIMEOUT, store.zmscore(CHANGES, '#sequence', '#since'))
      if (Number(sequence) !== before.sequence || Number(since) !== before.since) return sayAll()
      if (!closed) hear({ ...before, names: [] }, sent, at)
    } catch (error) {
      latest = undefined
      throw error
    }
  }

  const said = () => (shards === '' && status === '' ? '' : `${shards} ${status}`)

  const needsScript = (present: number) =>
    asks || said() !== written || present - tickedAt >= TICK_EVERY || present - clock.sent >= CLOCK_FOR

  /** Says nothing but that the gateway lives. */
  async function sayAlive(sent: number): Promise<void> {
    beatLater(sent)
    const at = Math.round(clock.at + sent - clock.sent)
    const say = (key: string) => askStore(TIMEOUT, store.zadd(key, at + BELIEVED_FOR, self))
    // One write: that the server wakes up costs it more than the commands.
    const stream = store instanceof Cluster ? undefined : store.stream
    stream?.cork()
    for (const listener of beatListeners) listener(at)
    const saying = decides ? [say(HEARTBEAT_KEYS.gateways), say(HEARTBEAT_KEYS.members)] : []
    stream?.uncork()
    try {
      const added = await Promise.all(saying)
      // A process that was stopped for long counted as dead.
      if (added.some((one) => Number(one) > 0)) sayAgain()
    } catch (error) {
      latest = undefined
      written = ''
      throw error
    }
  }

  function sayAgain(): void {
    written = ''
    beatSoon(READ_MIN)
  }

  async function sayAll(): Promise<void> {
    const names = [...waiting]
    waiting.clear()
    asks = false
    for (const listener of beatListeners) listener(undefined)
    const sent = performance.now()
    const at = Date.now()
    readLater(sent)
    beatLater(sent)
    const text = said()
    const sends = text !== written
    try {
      const reply = await askStore(
        TIMEOUT,
        runHeartbeat(store, KEYS, {
          member: decides ? self : '',
          ttl: BELIEVED_FOR,
          seen,
          status: sends ? text : '',
          channel,
          names,
        }),
      )
      for (const name of names) announced.set(name, sent)
      if (closed) return
      written = text
      // A process that was stopped for long counted as dead.
      if (reply.isNew && !sends && text !== '') sayAgain()
      clock = { at: reply.at, sent }
      hear(reply, sent, at)
    } catch (error) {
      // The store may have lost what it had before it answers again.
      latest = undefined
      written = ''
      for (const name of names) waiting.add(name)
      throw error
    }
  }

  function hear(reply: HeartbeatReply, sent: number, at: number): void {
    const before = latest
    latest = reply
    sentAt = sent
    answeredAt = at
    count = Math.max(1, reply.alive)
    const all = before === undefined || reply.since !== before.since || reply.sequence < before.sequence
    // The store may have forgotten both.
    if (all) {
      written = ''
      announced.clear()
      beatAt = readAt
    }
    // Two heartbeats may be under way at once.
    if (all || seen === undefined || reply.sequence > seen) seen = reply.sequence
    for (const name of reply.names) lately.set(name, REPEATS)
    const names = new Set(lately.keys())
    if (sent - countedAt >= REPEAT_GAP) {
      countedAt = sent
      for (const [name, left] of lately) {
        if (left > 1) lately.set(name, left - 1)
        else lately.delete(name)
      }
    }
    if (reply.layout !== layout) {
      layout = reply.layout
      for (const listener of layoutListeners) listener(layout)
    }
    for (const listener of listeners) listener(names, all)
  }

  /**
   * Takes a tick: what a read would have returned when the server made it. Anything that is no tick is ignored: any
   * client with access to the store may publish.
   */
  function hearTick(message: string): void {
    const [, numbers, layout] = TICK.exec(message) ?? []
    if (latest === undefined || numbers === undefined || closed) return
    const [at, alive, members, sequence, since] = numbers.split(' ').map(Number) as [
      number,
      number,
      number,
      number,
      number,
    ]
    const now = performance.now()
    // The earliest time at which the server can have made it. The server's clock may have been set meanwhile.
    const made = clock.sent + at - clock.at
    const age = now - made
    if (age < -CLOCK_ERROR || age > TICK_LATE) return
    tickedAt = made
    if (made < sentAt + TICK_NEWER) return
    if (sequence !== latest.sequence || since !== latest.since) {
      asks = true
      beatSoon(ASK_SPREAD)
    } else {
      readLater(made)
      schedule()
      hear({ ...latest, alive, members, layout: layout!, names: [] }, made, Date.now() - age)
    }
  }

  function readLater(known: number): void {
    readAt = known + READ_MIN + Math.random() * READ_SPREAD
  }

  function beatLater(sent: number): void {
    beatAt = sent + BEAT_MIN + Math.random() * BEAT_SPREAD
  }

  /** Lets the next heartbeat come within so many ms. */
  function beatSoon(ms: number): void {
    beatAt = Math.min(beatAt, performance.now() + Math.random() * ms)
    schedule()
  }

  function beatNow(): void {
    begun = true
    // Other code reports problems of the store.
    beat().catch(() => {})
    schedule()
  }

  function schedule(): void {
    clearTimeout(timer)
    if (closed || !begun) return
    timer = setTimeout(beatNow, Math.max(0, Math.min(beatAt, readAt) - performance.now())).unref()
  }

  // The server that comes next may not have the announcements.
  const forgetAnnounced = () => announced.clear()
  store.on('close', forgetAnnounced)
  store.on('node error', forgetAnnounced)
  if (store.status === 'ready') beatNow()
  else store.once('ready', beatNow)

  return {
    /** Returns the latest known number of gateways that decide, at least 1. It does not change while the store is away. */
    count: (): number => count,
    /**
     * Returns true while the heartbeat reports every change: the store answers it, and no gateway of a version that
     * announces nothing is alive. While it is false, maps ask the store themselves.
     */
    tellsAll: (): boolean =>
      latest !== undefined && latest.alive <= latest.members && performance.now() - sentAt < STALE,
    /** Returns when the latest answered heartbeat was sent or the latest tick was made, in unix ms; 0 if there was none. */
    answeredAt: (): number => answeredAt,
    /**
     * Registers a listener, which is called at each answered heartbeat and each tick.
     *
     * @param listener gets the names that were announced lately. A name is repeated for some seconds, because the change
     *   comes after the announcement. `all` is true when announcements may have been missed: at the first heartbeat,
     *   after a failed one, and when the store has forgotten announcements.
     * @returns a function that removes the listener
     */
    onChanges(listener: (names: ReadonlySet<string>, all: boolean) => void): () => void {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    /**
     * Registers a listener, which is called with each heartbeat that says that the gateway lives.
     *
     * @param listener gets the server's unix ms, as far as is known; undefined about twice a second of all gateways together
     * @returns a function that removes the listener
     */
    onBeat(listener: (at: number | undefined) => void): () => void {
      beatListeners.add(listener)
      return () => void beatListeners.delete(listener)
    },
    /**
     * Announces that a map is about to change. Resolves when the other gateways will hear of it, at once if it was
     * announced within the last second. Rejects when the store does not answer; then the name goes with the next
     * heartbeat.
     *
     * @param name must not begin with #
     */
    async announce(name: string): Promise<void> {
      if (performance.now() - (announced.get(name) ?? Number.NEGATIVE_INFINITY) < ANNOUNCED_FOR) return
      waiting.add(name)
      // Announcements of one turn share a heartbeat.
      announcing ??= Promise.resolve().then(() => {
        announcing = undefined
        return sayAll()
      })
      await announcing
    },
    /** Returns the layout of maps in many slots, empty for none; undefined before the first answer. */
    layout: (): string | undefined => layout,
    /** Registers a listener, which is called when the layout has changed, and with the first one. */
    onLayout(listener: (layout: string) => void): void {
      layoutListeners.push(listener)
      if (layout !== undefined) listener(layout)
    },
    /** Sets what `members` shows of this process. It is sent with the next heartbeat, if it has changed. */
    setStatus(text: string): void {
      status = text
    },
    /** Sets from how many shards this process reads the maps that grow with users, for `members`. */
    setShards(count: number): void {
      shards = String(count)
      // Somebody may wait for it.
      beatSoon(READ_MIN)
    },
    /** Channel of ticks. */
    channel,
    /** Takes a message from the channel. Without it, the heartbeat reads all itself. */
    hearTick,
    /** Reads the live gateways. Rejects when the store does not answer within a second. */
    members: (): Promise<readonly Member[]> => readMembers(store),
    async close(): Promise<void> {
      closed = true
      clearTimeout(timer)
      store.off('ready', beatNow)
      store.off('close', forgetAnnounced)
      store.off('node error', forgetAnnounced)
      if (store.status !== 'ready' || !decides) return
      const leaving = runHeartbeat(store, KEYS, {
        member: self,
        ttl: 0,
        seen: undefined,
        status: '',
        channel,
        names: [],
      })
      await askStore(LEAVE_TIMEOUT, leaving).catch(() => {})
    },
  }
}

async function readMembers(store: Client): Promise<readonly Member[]> {
  const { gateways, members, status } = HEARTBEAT_KEYS
  const ask = <T>(question: Promise<T>) => askStore(TIMEOUT, question)
  const listed = (key: string) => ask(store.zrangebyscore(key, '-inf', '+inf', 'LIMIT', 0, MOST_MEMBERS + 1))
  const [alive, young] = await Promise.all([listed(gateways), listed(members)])
  if (alive.length > MOST_MEMBERS) throw new Error('the store lists too many gateways')
  const known = new Set(young)
  const found: Member[] = []
  for (let i = 0; i < alive.length; i += PAGE) {
    const ids = alive.slice(i, i + PAGE)
    const statuses = await ask(store.hmget(status, ...ids))
    ids.forEach((id, k) => {
      const [, shards, said] = /^(\d*) (.*)$/s.exec(statuses[k] ?? '') ?? []
      found.push({
        id,
        status: said || undefined,
        shards: Number(shards) || undefined,
        older: !known.has(id),
      })
    })
  }
  return found
}

/** Presence of a process in a list of its own, beside the heartbeat. */
export type Presence = ReturnType<typeof createPresence>

/**
 * Keeps a process on a list, with each heartbeat.
 *
 * @param key sorted set: process by the unix ms until which it is believed to live
 * @param self unique id
 */
export function createPresence(
  store: Client,
  key: string,
  self: string,
  heartbeat: Pick<Heartbeat, 'onBeat'>,
) {
  function say(at: number | undefined): void {
    // The script also removes those that are not believed any more.
    const saying =
      at === undefined
        ? runAnnounce(store, key, self, BELIEVED_FOR)
        : store.zadd(key, at + BELIEVED_FOR, self)
    // Other code reports problems of the store.
    saying.catch(() => {})
  }

  const silence = heartbeat.onBeat(say)
  if (store.status === 'ready') say(undefined)

  return {
    async close(): Promise<void> {
      silence()
      if (store.status !== 'ready') return
      await askStore(LEAVE_TIMEOUT, runAnnounce(store, key, self, 0)).catch(() => {})
    },
  }
}
