import { randomUUID } from 'node:crypto'
import type { Client } from './run-script.js'
import { type HeartbeatReply, runAnnounce, runHeartbeat } from './scripts.js'
import { askStore } from './store-timeout.js'

/**
 * One call a second of each process that uses the store. It says that a gateway lives and what it is doing, and returns
 * what the others have announced: names of maps that they are about to change.
 */
export interface Heartbeat {
  /** Returns the latest known number of gateways that decide, at least 1. It does not change while the store is away. */
  count(): number
  /**
   * Returns true while the heartbeat reports every change: the store answers it, and no gateway of a version that
   * announces nothing is alive. While it is false, maps ask the store themselves.
   */
  tellsAll(): boolean
  /** Returns when the latest answered heartbeat was sent, in unix ms; 0 if there was none. */
  answeredAt(): number
  /**
   * Registers a listener, which is called at each answered heartbeat.
   *
   * @param listener gets the names that were announced lately. A name is repeated for some seconds, because the change
   *   comes after the announcement. `all` is true when announcements may have been missed: at the first heartbeat,
   *   after a failed one, and when the store has forgotten announcements.
   * @returns a function that removes the listener
   */
  onChanges(listener: (names: ReadonlySet<string>, all: boolean) => void): () => void
  /**
   * Announces that a map is about to change. Resolves when the other gateways will hear of it, at once if it was
   * announced within the last second. Rejects when the store does not answer; then the name goes with the next
   * heartbeat.
   *
   * @param name must not begin with #
   */
  announce(name: string): Promise<void>
  /** Returns the layout of maps in many slots, empty for none; undefined before the first answer. */
  layout(): string | undefined
  /** Registers a listener, which is called when the layout has changed, and with the first one. */
  onLayout(listener: (layout: string) => void): void
  /** Sets what `members` shows of this process. It is sent with the next heartbeat, if it has changed. */
  setStatus(status: string): void
  /** Sets from how many shards this process reads the maps that grow with users, for `members`. */
  setShards(shards: number): void
  /** Reads the live gateways. Rejects when the store does not answer within a second. */
  members(): Promise<readonly Member[]>
  close(): Promise<void>
}

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

/** Interval between heartbeats, in ms, evenly spread. A change whose message got lost is in force a little later. */
const BEAT_MIN = 720
const BEAT_SPREAD = 80
/** Which of them say that the gateway lives. The others only ask whether there are announcements, without the script. */
const FULL_EVERY = 3
/** How long a heartbeat is valid, in ms: two that say that the gateway lives may be lost before it counts as dead. */
const BELIEVED_FOR = 8000
/** How long a heartbeat waits for its answer, in ms. */
const TIMEOUT = 1000
/** Age of the latest answer above which the heartbeat does not report every change, in ms. */
const STALE = BEAT_MIN + BEAT_SPREAD + TIMEOUT
/**
 * Number of answered heartbeats that repeat a name. A change may come up to its time limit after its announcement, and
 * an announcement is not made again for ANNOUNCED_FOR. Heartbeats, not ms: while the store hangs, none is answered.
 */
const REPEATS = 6
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
export function createHeartbeat(store: Client, options: HeartbeatOptions = {}): Heartbeat {
  const { decides = true, self = randomUUID().slice(0, 13) } = options
  const listeners = new Set<(names: ReadonlySet<string>, all: boolean) => void>()
  const layoutListeners: ((layout: string) => void)[] = []
  /** Latest answer; undefined after a heartbeat that failed, and before the first. */
  let latest: HeartbeatReply | undefined
  let count = 1
  let layout: string | undefined
  let answeredAt = 0
  /** `performance.now()` at which the latest answered heartbeat was sent. */
  let sentAt = Number.NEGATIVE_INFINITY
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
  let beats = 0
  let timer: NodeJS.Timeout | undefined
  let closed = false

  async function beat(): Promise<void> {
    const sent = performance.now()
    const at = Date.now()
    const before = latest
    if (before === undefined || waiting.size > 0 || beats++ % FULL_EVERY === 0) return sayAll()
    try {
      const [sequence, since] = await askStore(TIMEOUT, store.zmscore(CHANGES, '#sequence', '#since'))
      if (Number(sequence) !== before.sequence || Number(since) !== before.since) return sayAll()
      if (!closed) hear({ ...before, names: [] }, sent, at)
    } catch (error) {
      latest = undefined
      throw error
    }
  }

  async function sayAll(): Promise<void> {
    const names = [...waiting]
    waiting.clear()
    const sent = performance.now()
    const at = Date.now()
    const said = shards === '' && status === '' ? '' : `${shards} ${status}`
    const sends = said !== written
    try {
      const reply = await askStore(
        TIMEOUT,
        runHeartbeat(store, KEYS, {
          member: decides ? self : '',
          ttl: BELIEVED_FOR,
          seen,
          status: sends ? said : '',
          names,
        }),
      )
      for (const name of names) announced.set(name, sent)
      if (closed) return
      written = said
      // A process that was stopped for long counted as dead.
      if (reply.isNew && !sends && said !== '') {
        written = ''
        beats = 0
      }
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
    }
    // Two heartbeats may be under way at once.
    if (all || seen === undefined || reply.sequence > seen) seen = reply.sequence
    for (const name of reply.names) lately.set(name, REPEATS)
    const names = new Set(lately.keys())
    for (const [name, left] of lately) {
      if (left > 1) lately.set(name, left - 1)
      else lately.delete(name)
    }
    if (reply.layout !== layout) {
      layout = reply.layout
      for (const listener of layoutListeners) listener(layout)
    }
    for (const listener of listeners) listener(names, all)
  }

  function tick(): void {
    // Other code reports problems of the store.
    beat().catch(() => {})
    if (closed) return
    timer = setTimeout(tick, BEAT_MIN + Math.random() * BEAT_SPREAD)
    timer.unref()
  }

  // The server that comes next may not have the announcements.
  const forgetAnnounced = () => announced.clear()
  store.on('close', forgetAnnounced)
  store.on('node error', forgetAnnounced)
  if (store.status === 'ready') tick()
  else store.once('ready', tick)

  return {
    count: () => count,
    tellsAll: () =>
      latest !== undefined && latest.alive <= latest.members && performance.now() - sentAt < STALE,
    answeredAt: () => answeredAt,
    onChanges(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    async announce(name) {
      if (performance.now() - (announced.get(name) ?? Number.NEGATIVE_INFINITY) < ANNOUNCED_FOR) return
      waiting.add(name)
      // Announcements of one turn share a heartbeat.
      announcing ??= Promise.resolve().then(() => {
        announcing = undefined
        return sayAll()
      })
      await announcing
    },
    layout: () => layout,
    onLayout(listener) {
      layoutListeners.push(listener)
      if (layout !== undefined) listener(layout)
    },
    setStatus(text) {
      status = text
    },
    setShards(count) {
      shards = String(count)
      // Somebody may wait for it: the next heartbeat says it.
      beats = 0
    },
    members: () => readMembers(store),
    async close() {
      closed = true
      clearTimeout(timer)
      store.off('ready', tick)
      store.off('close', forgetAnnounced)
      store.off('node error', forgetAnnounced)
      if (store.status !== 'ready' || !decides) return
      const leaving = runHeartbeat(store, KEYS, {
        member: self,
        ttl: 0,
        seen: undefined,
        status: '',
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

/** How often a gateway says that it answers questions, in ms, and how long it is believed: two may be lost. */
const PRESENT_EVERY = 4000
const PRESENT_FOR = 13_000

/** Presence of a process in a list of its own, beside the heartbeat. */
export interface Presence {
  close(): Promise<void>
}

/**
 * Keeps a process on a list, in the background.
 *
 * @param key sorted set: process by the unix ms until which it is believed to live
 * @param self unique id
 * @param heartbeat says when the store may have forgotten the list
 */
export function createPresence(
  store: Client,
  key: string,
  self: string,
  heartbeat?: Pick<Heartbeat, 'onChanges'>,
): Presence {
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function say(): void {
    clearTimeout(timer)
    // Other code reports problems of the store.
    runAnnounce(store, key, self, PRESENT_FOR).catch(() => {})
    if (closed) return
    timer = setTimeout(say, PRESENT_EVERY * (0.9 + Math.random() * 0.1))
    timer.unref()
  }

  const silence = heartbeat?.onChanges((_, all) => {
    if (all) say()
  })
  if (store.status === 'ready') say()
  store.on('ready', say)

  return {
    async close() {
      closed = true
      clearTimeout(timer)
      silence?.()
      store.off('ready', say)
      if (store.status !== 'ready') return
      await askStore(LEAVE_TIMEOUT, runAnnounce(store, key, self, 0)).catch(() => {})
    },
  }
}
