import { setTimeout as delay } from 'node:timers/promises'
import { deferred, type Turn } from '../common/wait.js'
import { slotOfKey } from '../limiter/key.js'
import type { Heartbeat } from '../limiter/redis/heartbeat.js'
import { Cluster } from '../limiter/redis/ioredis.js'
import type { Client } from '../limiter/redis/run-script.js'
import { type Log, throttledWarning } from '../log-throttle.js'
import { createChangeNumbers } from './change-numbers.js'
import type { Fleet } from './gateway-rpc.js'
import { answerHeld, askHeld } from './held-elsewhere.js'
import { openSubscriber, type Subscriber } from './pubsub.js'
import { createCopy, type RecentOptions } from './recent-copy.js'
import {
  type ForgettableMap,
  type MapHistory,
  MapRefusal,
  type MapShape,
  type ReplicatedMap,
} from './replicated-map.js'
import { type Change, createStoredMap, type Mark, readChanges } from './stored-map.js'
import { writeBack } from './write-back.js'

export interface RedisMapOptions {
  /** Store client from `connectStore`. The caller disconnects it. */
  readonly store: Client
  readonly log: Log
  /** Subscriber for messages. The caller closes it. Default: the map opens one of its own. */
  readonly subscriber?: Pick<Subscriber, 'listen'>
  /** Gateways that are asked for what the store has forgotten, and that may ask this one. Default: none. */
  readonly fleet?: Pick<Fleet, 'ask' | 'answer'>
  /** Lets the map hold only recent values once it is large. Default: all values are held. */
  readonly recent?: RecentOptions | undefined
  /** Announces changes, and says which map to poll. Default: none, so that the map polls all the time. */
  readonly heartbeat?: Heartbeat | undefined
  /**
   * Interval in ms between two polls of the store's version number, for changes whose message got lost, while the
   * heartbeat does not report every change.
   */
  readonly pollMs?: number
  /** For tests only: false turns messages off, so that only the poll is left. */
  readonly subscribe?: boolean
  /** Clock in unix ms, for values that end and for `confirmedAt`. */
  readonly now?: () => number
  /** Runs each poll. Default: at once. */
  readonly turn?: Turn
  /** Number of such maps of which this is a part: what nothing asks for is so much rarer. Default: 1. */
  readonly shards?: number
}

export interface RedisMap<V> extends ReplicatedMap<V>, ForgettableMap {}

/** How often the store is polled while the heartbeat reports every change, in ms, and how much longer it may take. */
const POLL_ANYWAY = 45_000
const POLL_ANYWAY_SPREAD = 30_000
/**
 * How often everything is loaded again, in ms. Nothing else reveals a server that lost a change and has numbered others
 * since.
 */
const RELOAD_EVERY = 300_000
/** The same for a map that is one of many shards, in ms. */
const RELOAD_EVERY_SHARD = 4 * RELOAD_EVERY
/**
 * Added to that interval for each value, in ms: 100 gateways that reload a million values ask Redis for 10,000 values a
 * second.
 */
const RELOAD_EVERY_VALUE = 10
/**
 * Time over which gateways spread that load after a lost connection, in ms for each value and gateway: together they
 * take about a fifth of a Redis core. Below the least it is done at once.
 */
const RELOAD_SPREAD = 0.005
const RELOAD_SPREAD_LEAST = 100
/**
 * Clock difference between gateways that is tolerated, in ms: a gateway whose clock is ahead removes ended values from
 * the store early.
 */
const CLOCKS_DIFFER = 600_000
/** How long messages that are on their way are waited for, in ms, after each that arrives. */
const MESSAGES_TAKE = 20
/** Interval in ms between two questions to the other gateways for what the store has forgotten. */
const LEARN_EVERY = 500
const LEARN_AT_MOST_EVERY = 60_000

/**
 * Keeps a map in Redis and holds all of it in memory, or what was asked for lately if it is large (`recent-copy.ts`).
 * Every change has a number. A message delivers a change at once. A
 * poll compares numbers and reads missing changes from the log of changes. It follows when the heartbeat names this
 * map, which each writer announces before it writes. Everything is loaded again when the log does
 * not reach back far enough, and after a lost connection: the server behind it may have lost data, or be another one.
 * While the store is away, the last known values stay in force.
 *
 * They also stay in force when the store has forgotten some: its number has gone back, or values are missing that no
 * gateway and no operator removed. From then on only later changes are taken over, until an operator decides. The mark
 * tells the other gateways.
 */
export function createRedisMap<V>(shape: MapShape<V>, options: RedisMapOptions): RedisMap<V> {
  const { store, log, fleet, heartbeat, pollMs = 500, subscribe = true, recent, now = Date.now } = options
  const { turn = (work) => work(), shards = 1 } = options
  const { name } = shape
  const stored = createStoredMap(store, shape, () => closed, now)
  const numbers = createChangeNumbers()
  const warn = throttledWarning(log)
  const held = createCopy(shape, recent, lookUp, now)
  /** Number of times that the connection was lost. */
  let losses = 0
  /** `performance.now()` from which everything is loaded again. */
  let reloadAt = 0
  let confirmed = 0
  /**
   * Set while the store has forgotten what is held here. `known`: greatest number before; `change`: number at the first
   * poll afterwards; `at`: unix ms.
   */
  let forgotten: { readonly known: number; readonly change: number; readonly at: number } | undefined
  let rollbacks = 0
  let mark: Mark = { state: 'decided', at: -1 }
  /** Time of the latest decision that was followed, in unix ms; -1 if there was none. */
  let decidedAt = -1
  /** When the other gateways are asked next (`performance.now()`), and the pause after that, in ms. */
  let learnAt = 0
  let learnPause = LEARN_EVERY
  let closed = false
  let polling: Promise<void> | undefined
  /** True if the heartbeat named this map while a poll was under way, which may have read an older number. */
  let pollAgain = false
  /** True if the latest poll left nothing to do, and no connection was lost since. */
  let isSettled = false
  const slot = store instanceof Cluster ? slotOfKey(name) : undefined
  /** Returns the server of a Cluster that has the map. */
  const serverNow = () => (slot === undefined ? undefined : (store as Cluster).slots[slot]?.[0])
  /** Server that the latest poll asked. Another one may have lost changes. */
  let server: string | undefined
  /** `performance.now()` from which the store is polled although nothing was reported. */
  let pollAt = 0
  let timer: NodeJS.Timeout | undefined
  const { promise: ready, resolve: markReady } = deferred()

  const endOf = (value: V) => shape.until?.(value) ?? Number.POSITIVE_INFINITY
  const aliveValue = (value: V | undefined) =>
    value === undefined || endOf(value) > now() ? value : undefined

  /** Reads values, each with its key; undefined for none. */
  async function valuesOf(keys: Iterable<string>): Promise<Map<string, V | undefined>> {
    const values = new Map<string, V | undefined>()
    for await (const page of stored.values([...keys])) for (const [key, value] of page) values.set(key, value)
    return values
  }

  /** Reads values that requests need now, in the order of the keys. */
  async function lookUp(keys: readonly string[]): Promise<readonly (V | undefined)[]> {
    const [values, { state }] = await Promise.all([valuesOf(keys), stored.version()])
    // A process that was stopped meanwhile does not know the layout yet.
    if (state === 'moved') throw new Error(`${shape.what} are in other shards now`)
    return [...values.values()].map(aliveValue)
  }

  /**
   * Loads all values.
   *
   * @param whole false: only those of the keys that are held
   */
  async function loadAll(present: number, whole: boolean): Promise<void> {
    const began = losses
    const from = numbers.version
    const all: Map<string, V | undefined> = await (whole ? stored.all(held.get) : valuesOf(held.keys()))
    const missing = missingIn(all, whole)
    const changed = missing.length === 0 ? [] : await stored.keysSince(from, forgotten !== undefined)
    // Pages of two stores, or of a store that was emptied meanwhile, do not make a complete map.
    const after = await stored.version()
    if (after.number < present || after.state === 'moved' || losses !== began)
      throw new Error('the store changed while it was read')
    if (closed) return
    // A page may be older than a change that a message delivered meanwhile.
    const newer = numbers.newerThan(present)
    for (const [key] of newer) {
      const value = held.get(key)
      if (value === undefined) all.delete(key)
      else all.set(key, value)
    }
    // If the log does not reach back that far, the gateway cannot tell.
    const changes = changed && new Set(changed)
    if (changes !== undefined && missing.some((key) => !changes.has(key))) {
      forget(numbers.version, present)
      for (const key of changes) if (whole || all.has(key) || !held.knows(key)) held.put(key, all.get(key))
    } else if (whole) held.replace(all as Map<string, V>)
    else held.renew(all)
    numbers.restart(present, newer)
    const every = shards === 1 ? RELOAD_EVERY : RELOAD_EVERY_SHARD
    reloadAt = performance.now() + every + all.size * shards * RELOAD_EVERY_VALUE
  }

  /**
   * Returns the keys that are held here and missing in the store, although the store reported them and they have not
   * ended.
   */
  function missingIn(all: ReadonlyMap<string, V | undefined>, whole: boolean): string[] {
    const soon = now() + CLOCKS_DIFFER
    const missing: string[] = []
    if (numbers.version < 0) return missing
    for (const [key, value] of held.each()) {
      // A recent copy may have learned of the key meanwhile.
      const isMissing = all.get(key) === undefined && (whole || all.has(key))
      if (isMissing && !numbers.isUnproven(key) && endOf(value) > soon) missing.push(key)
    }
    return missing
  }

  async function loadChanges(present: number): Promise<void> {
    // A full load must not bring back what a store had before it forgot: then the log is used as far as it goes.
    const keys = await stored.keysSince(numbers.version, forgotten !== undefined)
    if (keys === undefined) return loadAll(present, held.isWhole())
    await loadKeys(keys, present)
    numbers.version = present
  }

  /**
   * Returns true if messages bring the copy to this number. In an import there are always some on their way, and the
   * log is too short to read them all from it.
   */
  async function arrives(number: number): Promise<boolean> {
    for (let before = -1; before < numbers.version && numbers.version < number && !closed; ) {
      before = numbers.version
      await delay(MESSAGES_TAKE, undefined, { ref: false })
    }
    return numbers.version >= number
  }

  async function loadKeys(keys: readonly string[], present: number): Promise<void> {
    for (const key of keys) if (!held.knows(key)) held.put(key, undefined)
    for await (const page of stored.values(keys.filter(held.knows))) {
      for (const [key, value] of page) if (!numbers.isNewer(key, present)) held.put(key, value)
    }
  }

  /** Records that the store has forgotten values. The values held here stay in force. */
  function forget(known: number, present: number): void {
    rollbacks++
    forgotten = {
      known: Math.max(known, forgotten?.known ?? -1),
      change: present,
      at: forgotten?.at ?? now(),
    }
    log.warn(
      { records: shape.what, held: held.size, change: known, store_change: present },
      'the store has forgotten records: the last known ones stay in force until an operator decides (tidegate store)',
    )
  }

  /** Marks the map in the store as open: other gateways and operators see that no decision has been made yet. */
  async function markOpen(): Promise<void> {
    mark = { state: 'open', at: Math.max(now(), mark.at + 1, decidedAt + 1) }
    await announce()
    await stored.setMark(mark)
  }

  /** Takes over what another gateway holds, if one knows more. */
  async function learn(): Promise<void> {
    // The store serves values that are not held.
    if (fleet === undefined || !held.isWhole()) return
    const began = losses
    const found = await askHeld(fleet, name, forgotten?.known ?? -1, shape.most)
    learnPause = Math.min(learnPause * 2, LEARN_AT_MOST_EVERY)
    learnAt = performance.now() + learnPause
    if (found === undefined || losses !== began || closed) return
    const all = new Map<string, V>()
    for (const [key, text] of found.texts) {
      const value = text === '' ? undefined : shape.parse(text)
      if (value !== undefined) all.set(key, value)
    }
    forgotten = { known: found.known, change: found.change, at: forgotten?.at ?? mark.at }
    held.replace(all)
    numbers.restart(found.change)
    numbers.loadAnew = false
    log.info(
      { records: shape.what, held: all.size },
      'the store has forgotten records: another gateway supplied the last known ones',
    )
  }

  /** Returns true if all values are to be held. What the store has forgotten changes nothing about it. */
  async function wantsWhole(): Promise<boolean> {
    if (recent === undefined) return true
    return forgotten === undefined ? recent.size.isWhole(held.size, numbers.loadAnew) : held.isWhole()
  }

  async function poll(): Promise<void> {
    isSettled = false
    server = serverNow()
    const lately = numbers.beginPoll()
    held.sweep()
    if (store.status !== 'ready') return
    const asked = now()
    // Messages may tell of later changes while the store answers.
    const { proven: before, version: complete } = numbers
    // Read first: a change made while the rest is read has a greater number, and the next poll reads it again.
    const [{ number: present, state }, marked] = await Promise.all([stored.version(), stored.mark()])
    // The last known values stay in force until this gateway reads the shards that they were moved to.
    if (state === 'moved' && confirmed > 0) return
    if (state === 'moved')
      throw new Error('they are in other shards than the layout of the store says; see tidegate store')
    mark = marked
    numbers.reached(present)
    const isDecided = mark.state === 'decided' && mark.at > decidedAt
    // The map was empty before, and still is.
    const isEmptied = present === 0 && forgotten === undefined && held.size === 0
    if (isDecided || (present < before && isEmptied)) {
      if (forgotten !== undefined)
        log.info({ records: shape.what }, 'an operator has decided: the records of the store are in force')
      forgotten = undefined
      if (isDecided) decidedAt = mark.at
      numbers.version = -1
      numbers.proven = present
      numbers.loadAnew = true
    } else if (present < before) {
      forget(before, present)
      numbers.proven = present
      numbers.restart(present)
    } else if (present > numbers.proven) numbers.proven = present
    const whole = await wantsWhole()
    if (!whole) held.bound()
    if (mark.state !== 'open') learnPause = LEARN_EVERY
    else if (forgotten === undefined && performance.now() >= learnAt) await learn()
    if (forgotten !== undefined) {
      numbers.loadAnew = false
      if (mark.state !== 'open') await markOpen()
      // Changes made after the store forgot, before this gateway noticed.
      const { change } = forgotten
      const since = lately.flatMap(([number, key]) => (number <= change ? [key] : []))
      await loadKeys(since, present)
      if (present > numbers.version) await loadChanges(present)
      else numbers.version = present
    } else if (
      whole !== held.isWhole() ||
      numbers.loadAnew ||
      present < complete ||
      performance.now() > reloadAt ||
      // Records that the log of a frozen map names may be removed before they are read. A full load notices that.
      (state === 'frozen' && present > numbers.version)
    ) {
      numbers.loadAnew = false
      await loadAll(present, whole).catch((error: unknown) => {
        numbers.loadAnew = true
        throw error
      })
      // If no gateway writes any more, no other gateway removes ended values.
      const ended = held.sweep()
      confirmed = asked
      markReady()
      if (ended) await stored.sweep()
      // Changes made during a long load are read again.
      if (!closed && !numbers.loadAnew) return poll()
    } else if (!(await arrives(present))) await loadChanges(present)
    confirmed = asked
    isSettled = forgotten === undefined && mark.state !== 'open'
    pollAt = performance.now() + (POLL_ANYWAY + Math.random() * POLL_ANYWAY_SPREAD) * shards
    markReady()
  }

  function schedule(): void {
    clearTimeout(timer)
    timer = setTimeout(onTimer, pollMs * (0.8 + Math.random() * 0.2)).unref()
  }

  /** Returns true if the copy is what the store has, as far as messages and heartbeats report. */
  const isQuiet = () => isSettled && !numbers.loadAnew && !numbers.awaitsProof() && serverNow() === server

  function onTimer(): void {
    if (heartbeat?.tellsAll() !== true || !isQuiet() || performance.now() > Math.min(pollAt, reloadAt)) tick()
    else {
      held.sweep()
      schedule()
    }
  }

  function onHeartbeat(names: ReadonlySet<string>, all: boolean): void {
    if (all || names.has(name)) {
      if (polling === undefined) tick()
      else pollAgain = true
    } else if (isQuiet()) confirmed = Math.max(confirmed, heartbeat!.answeredAt())
  }

  /** Announces a change. If that fails, the name goes with the next heartbeat. */
  const announce = async () => heartbeat?.announce(name).catch(() => {})

  /** Polls the store, one poll at a time. Rejects when the store can't be read. */
  function pollOnce(): Promise<void> {
    polling ??= turn(poll).finally(() => {
      polling = undefined
      if (closed) return
      if (pollAgain) {
        pollAgain = false
        tick()
      } else schedule()
    })
    return polling
  }

  function tick(): void {
    if (polling !== undefined || closed) return
    pollOnce().catch((error: unknown) => {
      if (!closed) warn({ error: (error as Error).message }, `${shape.what}: keeping the last known`)
    })
  }

  function take(changes: readonly Change[]): void {
    for (const [number, key, text] of changes) {
      if (numbers.take(number, key, text)) held.put(key, text === '' ? undefined : shape.parse(text))
    }
  }

  async function put(
    only: 'present' | 'absent' | '',
    values: readonly (readonly [key: string, value: V | undefined])[],
  ): Promise<boolean> {
    let done = false
    await announce()
    for await (const changes of stored.put(only, values)) {
      done = true
      numbers.proven = Math.max(numbers.proven, changes.at(-1)![0])
      take(changes)
      // Many values take longer than an announcement covers.
      await announce()
    }
    return done
  }

  const history = (): MapHistory => ({
    what: shape.what,
    held: held.size,
    isWhole: held.isWhole(),
    lookUps: held.lookUps,
    forgottenAt: forgotten?.at ?? (mark.state === 'open' ? mark.at : undefined),
    known: forgotten !== undefined || mark.state !== 'open' || !held.isWhole(),
    rollbacks,
  })

  async function decide(): Promise<void> {
    await announce()
    await stored.setMark({ state: 'decided', at: Math.max(now(), mark.at + 1, decidedAt + 1) })
    // A poll in progress has not seen the write.
    await polling?.catch(() => {})
    await pollOnce()
  }

  const own = subscribe && options.subscriber === undefined ? openSubscriber(store) : undefined
  const subscriber = options.subscriber ?? own
  const unlisten = subscriber?.listen(stored.channel, (message) => {
    const changes = readChanges(message)
    if (changes !== undefined) take(changes)
  })
  const onClose = () => {
    losses++
    isSettled = false
    numbers.believe()
  }
  const onReady = () => {
    numbers.believe()
    const spread = held.size * shards * (heartbeat?.count() ?? 1) * RELOAD_SPREAD
    if (spread < RELOAD_SPREAD_LEAST) numbers.loadAnew = true
    else reloadAt = Math.min(reloadAt, performance.now() + Math.random() * spread)
    tick()
  }
  function* texts(): Generator<readonly [string, string]> {
    for (const key of held.keys()) {
      const value = held.get(key)
      yield [key, value === undefined ? '' : shape.write(value)]
    }
  }
  const unanswer =
    fleet &&
    answerHeld(fleet, name, () => {
      if (forgotten === undefined) return undefined
      return { known: forgotten.known, change: numbers.version, texts: texts() }
    })
  // A server of a Cluster that comes back may have lost changes. The client stays connected meanwhile.
  const onNodeError = (_: unknown, node: string) => {
    if (node === server) isSettled = false
  }
  const silence = heartbeat?.onChanges(onHeartbeat)
  store.on('close', onClose)
  store.on('ready', onReady)
  store.on('node error', onNodeError)
  tick()

  return {
    get: held.get,
    entries: held.entries,
    onChange: held.onChange,
    isWhole: held.isWhole,
    find: held.find,
    async set(key, value) {
      await put('', [[key, value]])
    },
    async setAll(values) {
      if (values.length > 0) await put('', values)
    },
    async setIf(only, key, value) {
      // While the store has forgotten values, it can't tell what is present.
      if (forgotten === undefined || !held.knows(key)) return await put(only, [[key, value]])
      return (held.get(key) === undefined) === (only === 'absent') && (await put('', [[key, value]]))
    },
    async read(key) {
      const isOpen = () => forgotten === undefined && mark.state === 'open' && held.isWhole()
      if (isOpen()) await pollOnce()
      if (forgotten !== undefined && held.knows(key)) return held.get(key)
      const [value, { state }] = await Promise.all([stored.value(key), stored.mark()])
      if (state === 'open' && held.isWhole()) {
        await pollOnce()
        if (forgotten !== undefined) return held.get(key)
        throw new MapRefusal(
          `the store has forgotten ${shape.what}, and no gateway knows them; see tidegate store`,
        )
      }
      return aliveValue(value)
    },
    async page(cursor = '0', mayFit) {
      const [{ values, next }, { state }] = await Promise.all([stored.page(cursor, mayFit), stored.version()])
      if (state === 'moved') throw new Error(`${shape.what} are in other shards now`)
      const alive = values.filter(([, value]) => endOf(value) > now())
      return { values: alive, next: next === '0' ? undefined : next }
    },
    ready,
    confirmedAt: () => confirmed,
    history,
    async look() {
      if (store.status !== 'ready') throw new Error('there is no connection to the store')
      await pollOnce()
      return history()
    },
    accept: decide,
    async restore() {
      await pollOnce()
      await learn()
      if (forgotten === undefined) return undefined
      const written = await writeBack(store, shape, held, {
        known: forgotten.known,
        change: () => (forgotten === undefined || closed ? undefined : numbers.version),
        look: pollOnce,
      })
      await decide()
      return written
    },
    async close() {
      closed = true
      clearTimeout(timer)
      silence?.()
      unlisten?.()
      unanswer?.()
      store.off('close', onClose)
      store.off('ready', onReady)
      store.off('node error', onNodeError)
      own?.close()
    },
  }
}
