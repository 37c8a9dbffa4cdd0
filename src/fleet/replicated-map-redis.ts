import { type Client, runPut, runSweep } from '../limiter/redis/scripts.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { type Log, throttledWarning } from '../log-throttle.js'
import type { Fleet } from './gateway-rpc.js'
import { answerHeld, askHeld } from './held-elsewhere.js'
import { channelOf, openSubscriber, type Subscriber } from './pubsub.js'
import {
  createHeld,
  type ForgettableMap,
  fullError,
  type MapHistory,
  MapRefusal,
  type MapShape,
  type ReplicatedMap,
  writeWithin,
} from './replicated-map.js'
import { type Mark, readMark, writeMark } from './rollback-mark.js'
import { writeBack } from './write-back.js'

export interface RedisMapOptions {
  /** Store client from `connectStore`. The caller disconnects it. */
  readonly store: Client
  readonly log: Log
  /** Subscriber for messages. The caller closes it. Default: the map opens one of its own. */
  readonly subscriber?: Subscriber
  /** Gateways that are asked for what the store has forgotten, and that may ask this one. Default: none. */
  readonly fleet?: Pick<Fleet, 'ask' | 'answer'>
  /** Interval in ms between two polls of the store's version number, for changes whose message got lost. */
  readonly pollMs?: number
  /** For tests only: false turns messages off, so that only the poll is left. */
  readonly subscribe?: boolean
  /** Clock in unix ms, for values that end and for `confirmedAt`. */
  readonly now?: () => number
}

export interface RedisMap<V> extends ReplicatedMap<V>, ForgettableMap {}

const LOG_LENGTH = 10_000
const SCAN_COUNT = 1000
const SWEEP_COUNT = 1000
const TIMEOUT = 1000
/** Changes that are remembered as their message told them. */
const TOLD = 1000
/**
 * How often everything is loaded again, in ms. Nothing else reveals a server that lost a change and has numbered others
 * since.
 */
const RELOAD_EVERY = 300_000
/**
 * Added to that interval for each value, in ms: 100 gateways that reload a million values ask Redis for 10,000 values a
 * second.
 */
const RELOAD_EVERY_VALUE = 10
/**
 * Clock difference between gateways that is tolerated, in ms: a gateway whose clock is ahead removes ended values from
 * the store early.
 */
const CLOCKS_DIFFER = 600_000
/** Interval in ms between two questions to the other gateways for what the store has forgotten. */
const LEARN_EVERY = 500
const LEARN_AT_MOST_EVERY = 60_000

/**
 * Keeps a map in Redis and holds all of it in memory. Every change has a number. A message delivers a change at once. A
 * poll compares numbers and reads missing changes from the log of changes. Everything is loaded again when the log does
 * not reach back far enough, and after a lost connection: the server behind it may have lost data, or be another one.
 * While the store is away, the last known values stay in force.
 *
 * They also stay in force when the store has forgotten some: its number has gone back, or values are missing that no
 * gateway and no operator removed. From then on only later changes are taken over, until an operator decides. The mark
 * tells the other gateways.
 */
export function createRedisMap<V>(shape: MapShape<V>, options: RedisMapOptions): RedisMap<V> {
  const { store, log, fleet, pollMs = 500, subscribe = true, now = Date.now } = options
  const { name } = shape
  const channel = channelOf(store, `${name}:changed`)
  const warn = throttledWarning(log)
  const held = createHeld(shape, now)
  /** Number of the change up to which `held` is complete; -1 while it is not. */
  let version = -1
  /** Greatest number that the store itself reported, or that messages reported before a connection was lost. */
  let proven = -1
  /**
   * True if everything is to be loaded. It is separate from `version`, so that a load in progress does not clear a
   * later request.
   */
  let loadAnew = true
  /** Number of times that the connection was lost. */
  let losses = 0
  /** Latest changes, by number, that were accepted without asking the store. */
  const told = new Map<number, string>()
  /** Keys set by a message whose number the store has not reached yet, with that number. */
  const unproven = new Map<string, number>()
  /**
   * Keys that messages have changed since the last poll began, with the greatest number. What the poll read of them may
   * be older.
   */
  const heard = new Map<string, number>()
  /** Changes since the last poll whose number was known already. For a store that has forgotten, they are new. */
  let late: [number: number, key: string][] = []
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
  let timer: NodeJS.Timeout | undefined
  let markReady = () => {}
  const ready = new Promise<void>((resolve) => {
    markReady = resolve
  })

  const parse = (text: string | null | undefined) => (text ? shape.parse(text) : undefined)
  const ask = <T>(question: Promise<T>) => askStore(TIMEOUT, question)
  const readVersion = async () => Number(await ask(store.get(`${name}:version`)))
  const endOf = (value: V) => shape.until?.(value) ?? Number.POSITIVE_INFINITY

  async function loadAll(present: number): Promise<void> {
    const all = new Map<string, V>()
    const began = losses
    const from = version
    let cursor = '0'
    do {
      const page: [string, string[]] = await ask(store.hscan(name, cursor, 'COUNT', SCAN_COUNT))
      const pairs = page[1]
      for (let i = 0; i + 1 < pairs.length; i += 2) {
        const value = parse(pairs[i + 1])
        if (value !== undefined) all.set(pairs[i]!, value)
      }
      cursor = page[0]
    } while (cursor !== '0' && !closed)
    const missing = missingIn(all)
    const changed = missing.length === 0 ? [] : await keysSince(from)
    // Pages of two stores, or of a store that was emptied meanwhile, do not make a complete map.
    if ((await readVersion()) < present || losses !== began)
      throw new Error('the store changed while it was read')
    if (closed) return
    // A page may be older than a change that a message delivered meanwhile.
    const newer = [...heard].filter(([, number]) => number > present)
    for (const [key] of newer) {
      const value = held.get(key)
      if (value === undefined) all.delete(key)
      else all.set(key, value)
    }
    // If the log does not reach back that far, the gateway cannot tell.
    const changes = changed && new Set(changed)
    if (changes !== undefined && missing.some((key) => !changes.has(key))) {
      forget(version, present)
      for (const key of changes) held.put(key, all.get(key))
    } else held.replace(all)
    version = present
    told.clear()
    unproven.clear()
    for (const [key, number] of newer) if (number > proven) unproven.set(key, number)
    reloadAt = performance.now() + RELOAD_EVERY + all.size * RELOAD_EVERY_VALUE
  }

  /**
   * Returns the keys that are held here and missing in the store, although the store reported them and they have not
   * ended.
   */
  function missingIn(all: ReadonlyMap<string, V>): string[] {
    const soon = now() + CLOCKS_DIFFER
    const missing: string[] = []
    if (version < 0) return missing
    for (const [key, value] of held.entries()) {
      if (!all.has(key) && !unproven.has(key) && endOf(value) > soon) missing.push(key)
    }
    return missing
  }

  /** Returns the keys that changed after that number; undefined if the log does not reach back that far. */
  async function keysSince(number: number): Promise<string[] | undefined> {
    const [length, known] = await Promise.all([
      ask(store.zcard(`${name}:log`)),
      ask(store.zcount(`${name}:log`, '-inf', number + 1)),
    ])
    // A trimmed log reaches back far enough if it still holds a change as old as the next one. A full load must not
    // bring back what a store had before it forgot: in that case the log is used as far as it goes.
    if (length >= LOG_LENGTH && known === 0 && forgotten === undefined) return undefined
    return await ask(store.zrangebyscore(`${name}:log`, number + 1, '+inf'))
  }

  async function loadChanges(present: number): Promise<void> {
    const keys = await keysSince(version)
    if (keys === undefined) return loadAll(present)
    await loadKeys(keys, present)
    version = present
  }

  async function loadKeys(keys: readonly string[], present: number): Promise<void> {
    for (let from = 0; from < keys.length; from += SCAN_COUNT) {
      const page = keys.slice(from, from + SCAN_COUNT)
      const found = await ask(store.hmget(name, ...page))
      page.forEach((key, i) => {
        if ((heard.get(key) ?? -1) <= present) held.put(key, parse(found[i]))
      })
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
      { records: shape.what, held: held.entries().size, change: known, store_change: present },
      'the store has forgotten what it had: the last known holds until an operator decides, by tidegate store',
    )
  }

  /** Marks the map in the store as open: other gateways and operators see that no decision has been made yet. */
  async function markOpen(): Promise<void> {
    mark = { state: 'open', at: Math.max(now(), mark.at + 1, decidedAt + 1) }
    await ask(store.set(`${name}:rollback`, writeMark(mark)))
  }

  /** Takes over what another gateway holds, if one knows more. */
  async function learn(): Promise<void> {
    if (fleet === undefined) return
    const began = losses
    const found = await askHeld(fleet, name, forgotten?.known ?? -1, shape.most)
    learnPause = Math.min(learnPause * 2, LEARN_AT_MOST_EVERY)
    learnAt = performance.now() + learnPause
    if (found === undefined || losses !== began || closed) return
    const all = new Map<string, V>()
    for (const [key, text] of found.texts) {
      const value = parse(text)
      if (value !== undefined) all.set(key, value)
    }
    forgotten = { known: found.known, change: found.change, at: forgotten?.at ?? mark.at }
    held.replace(all)
    version = found.change
    loadAnew = false
    told.clear()
    unproven.clear()
    log.info(
      { records: shape.what, held: all.size },
      'the store has forgotten what it had: another gateway has told what holds',
    )
  }

  async function poll(): Promise<void> {
    heard.clear()
    held.sweep()
    if (store.status !== 'ready') return
    const asked = now()
    const before = proven
    const lately = late
    late = []
    // Read first: a change made while the rest is read has a greater number, and the next poll reads it again.
    const [present, text] = await Promise.all([readVersion(), ask(store.get(`${name}:rollback`))])
    mark = readMark(text)
    for (const [key, number] of unproven) if (number <= present) unproven.delete(key)
    const isDecided = mark.state === 'decided' && mark.at > decidedAt
    // The map was empty before, and still is.
    const isEmptied = present === 0 && forgotten === undefined && held.entries().size === 0
    if (isDecided || (present < before && isEmptied)) {
      if (forgotten !== undefined) log.info({ records: shape.what }, 'decided: what the store has holds')
      forgotten = undefined
      if (isDecided) decidedAt = mark.at
      version = -1
      proven = present
      loadAnew = true
    } else if (present < before) {
      forget(before, present)
      version = present
      proven = present
      told.clear()
      unproven.clear()
    } else if (present > proven) proven = present
    if (mark.state !== 'open') learnPause = LEARN_EVERY
    else if (forgotten === undefined && performance.now() >= learnAt) await learn()
    if (forgotten !== undefined) {
      loadAnew = false
      if (mark.state !== 'open') await markOpen()
      // Changes made after the store forgot, before this gateway noticed.
      const { change } = forgotten
      const since = lately.flatMap(([number, key]) => (number <= change ? [key] : []))
      await loadKeys(since, present)
      if (present > version) await loadChanges(present)
      else version = present
    } else if (loadAnew || present < version || performance.now() > reloadAt) {
      loadAnew = false
      await loadAll(present).catch((error: unknown) => {
        loadAnew = true
        throw error
      })
      // If no gateway writes any more, no other gateway removes ended values.
      const ended = held.sweep()
      confirmed = asked
      markReady()
      if (ended) await sweepStore()
      // Changes made during a long load are read again.
      if (!closed && !loadAnew) return poll()
    } else if (present > version) await loadChanges(present)
    confirmed = asked
    markReady()
  }

  function schedule(): void {
    clearTimeout(timer)
    timer = setTimeout(tick, pollMs * (0.8 + Math.random() * 0.2))
    timer.unref()
  }

  /** Polls the store, one poll at a time. Rejects when the store can't be read. */
  function pollOnce(): Promise<void> {
    polling ??= poll().finally(() => {
      polling = undefined
      if (!closed) schedule()
    })
    return polling
  }

  function tick(): void {
    if (polling !== undefined || closed) return
    pollOnce().catch((error: unknown) => {
      if (!closed) warn({ error: (error as Error).message }, `${shape.what}: keeping the last known`)
    })
  }

  /**
   * Applies one change from a message or from the reply to our own write. Either may arrive after something newer has
   * been read. If two changes with the same number differ, one of them is not the store's: everything is loaded again.
   */
  function apply(number: number, key: string, text: string): void {
    const change = `${key}\n${text}`
    if (number <= version) {
      const before = told.get(number)
      if (before === change) return
      late.push([number, key])
      if (late.length > TOLD) late.shift()
      if (before === undefined) return
      loadAnew = true
      for (const one of [key, before.slice(0, before.indexOf('\n'))])
        unproven.set(one, Number.POSITIVE_INFINITY)
      return
    }
    held.put(key, parse(text))
    heard.set(key, Math.max(number, heard.get(key) ?? -1))
    if (number > proven) unproven.set(key, number)
    if (number !== version + 1) return
    version = number
    told.set(number, change)
    if (told.size > TOLD) told.delete(told.keys().next().value!)
  }

  function onMessage(message: string): void {
    const [number, key, text] = readMessage(message)
    if (number !== undefined) apply(number, key, text)
  }

  /** Removes ended values from the store, so that they do not count as present. */
  async function sweepStore(): Promise<void> {
    while ((await ask(runSweep(store, name, now(), SWEEP_COUNT))) === SWEEP_COUNT && !closed);
  }

  async function put(only: 'present' | 'absent' | '', key: string, value: V | undefined): Promise<boolean> {
    const text = writeWithin(shape, key, value)
    if (shape.until !== undefined) await sweepStore()
    // While the store has forgotten values, it can't tell what is present.
    if (forgotten !== undefined && only !== '') {
      if ((held.get(key) === undefined) !== (only === 'absent')) return false
      only = ''
    }
    const number = await ask(
      runPut(store, name, {
        key,
        value: text,
        channel,
        logLength: LOG_LENGTH,
        until: (value === undefined ? undefined : shape.until?.(value)) ?? 0,
        most: shape.most,
        only,
      }),
    )
    if (number < 0) throw fullError(shape)
    if (number === 0) return false
    if (number > proven) proven = number
    apply(number, key, text)
    return true
  }

  const history = (): MapHistory => ({
    what: shape.what,
    held: held.entries().size,
    forgottenAt: forgotten?.at ?? (mark.state === 'open' ? mark.at : undefined),
    known: forgotten !== undefined || mark.state !== 'open',
    rollbacks,
  })

  async function decide(): Promise<void> {
    const at = Math.max(now(), mark.at + 1, decidedAt + 1)
    await ask(store.set(`${name}:rollback`, writeMark({ state: 'decided', at })))
    // A poll in progress has not seen the write.
    await polling?.catch(() => {})
    await pollOnce()
  }

  const own = subscribe && options.subscriber === undefined ? openSubscriber(store) : undefined
  const subscriber = options.subscriber ?? own
  subscriber?.listen(channel, onMessage)
  /**
   * Called when a connection is lost or made again. Changes from earlier messages count as the store's own: it had
   * them, even if it has lost them since. On a connection that lasts, a number that the store does not have was never
   * its own.
   */
  function believe(): void {
    proven = Math.max(proven, version)
    for (const [key, number] of unproven) if (number !== Number.POSITIVE_INFINITY) unproven.delete(key)
  }
  const onClose = () => {
    losses++
    loadAnew = true
    believe()
  }
  const onReady = () => {
    believe()
    tick()
  }
  function* texts(): Generator<readonly [string, string]> {
    for (const [key, value] of held.entries()) yield [key, shape.write(value)]
  }
  if (fleet !== undefined) {
    answerHeld(fleet, name, () => {
      if (forgotten === undefined) return undefined
      return { known: forgotten.known, change: version, texts: texts() }
    })
  }
  store.on('close', onClose)
  store.on('ready', onReady)
  tick()

  return {
    get: held.get,
    entries: held.entries,
    onChange: held.onChange,
    async set(key, value) {
      await put('', key, value)
    },
    setIf: put,
    async read(key) {
      if (forgotten === undefined && mark.state === 'open') await pollOnce()
      if (forgotten !== undefined) return held.get(key)
      const [text, marked] = await Promise.all([
        ask(store.hget(name, key)),
        ask(store.get(`${name}:rollback`)),
      ])
      if (readMark(marked).state === 'open') {
        await pollOnce()
        if (forgotten !== undefined) return held.get(key)
        throw new MapRefusal(
          `the store has forgotten ${shape.what}, and nobody knows them; see tidegate store`,
        )
      }
      const value = parse(text)
      return value !== undefined && endOf(value) <= now() ? undefined : value
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
        change: () => (forgotten === undefined || closed ? undefined : version),
        look: pollOnce,
      })
      await decide()
      return written
    },
    async close() {
      closed = true
      clearTimeout(timer)
      store.off('close', onClose)
      store.off('ready', onReady)
      own?.close()
    },
  }
}

/**
 * Parses a message. Returns `[undefined]` for anything that is not one of ours: any client with access to the store may
 * publish.
 */
function readMessage(message: string): [number, string, string] | [undefined] {
  try {
    const parsed: unknown = JSON.parse(message)
    if (!Array.isArray(parsed)) return [undefined]
    const [number, key, value] = parsed as unknown[]
    const ours = Number.isSafeInteger(number) && typeof key === 'string' && typeof value === 'string'
    return ours ? [number as number, key, value] : [undefined]
  } catch {
    return [undefined]
  }
}
