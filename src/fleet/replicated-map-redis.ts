import { type Log, onceASecond } from '../limiter/degraded.js'
import { type Client, runPut, runSweep } from '../limiter/redis/scripts.js'
import { askStore } from '../limiter/redis/store-timeout.js'
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
  /** From `connectStore`; stays the caller's to disconnect. */
  readonly store: Client
  readonly log: Log
  /** Stays the caller's to close; by default one of its own. */
  readonly subscriber?: Subscriber
  /** Whom to ask what the store has forgotten, and who may ask; by default nobody. */
  readonly fleet?: Pick<Fleet, 'ask' | 'answer'>
  /** Ms between two looks at the store's version number, for changes whose message got lost. */
  readonly pollMs?: number
  /** Tests only: without messages, so that only the poll is left. */
  readonly subscribe?: boolean
  /** Unix ms: for values that end, and for `confirmedAt`. */
  readonly now?: () => number
}

export interface RedisMap<V> extends ReplicatedMap<V>, ForgettableMap {}

const LOG_LENGTH = 10_000
const SCAN_COUNT = 1000
const SWEEP_COUNT = 1000
const TIMEOUT = 1000
/** Changes that are remembered as they were told. */
const TOLD = 1000
/** Ms: a server that lost a change and has since numbered others so far is not seen through otherwise. */
const RELOAD_EVERY = 300_000
/** On top, for each value: 100 gateways that load a million of them anew ask Redis for 10,000 values a second. */
const RELOAD_EVERY_VALUE = 10
/** Ms that the clock of another gateway may be ahead, which takes values out of the store as they end. */
const CLOCKS_DIFFER = 600_000
/** Ms between two questions who knows what the store has forgotten. */
const LEARN_EVERY = 500
const LEARN_AT_MOST_EVERY = 60_000

/**
 * A map in Redis, held whole in memory. A change has a number; a message brings it at once, and a poll compares
 * numbers and reads what is missing from the log of changes. Everything is loaded anew when the log does not reach
 * back far enough, and after a connection was lost: the server behind it may have lost data, or be another.
 * While the store is away the last known values hold.
 *
 * They hold, too, when the store has forgotten some: when its number has gone back, or values are not there that nobody
 * has taken out. Then only later changes are taken over, until an operator says what holds. The mark tells others of it.
 */
export function createRedisMap<V>(shape: MapShape<V>, options: RedisMapOptions): RedisMap<V> {
  const { store, log, fleet, pollMs = 500, subscribe = true, now = Date.now } = options
  const { name } = shape
  const channel = channelOf(store, `${name}:changed`)
  const warn = onceASecond((fields, message) => log.warn(fields, message))
  const held = createHeld(shape, now)
  /** Number of the change up to which `held` is complete; -1: it is not. */
  let version = -1
  /** The greatest number that the store itself has told, or messages before a connection was lost. */
  let proven = -1
  /** Everything is to be loaded. Apart from `version`, so that a load which is under way does not take the wish for its own. */
  let loadAnew = true
  /** How often the connection was lost. */
  let losses = 0
  /** The latest changes that were believed without asking the store, by their numbers. */
  const told = new Map<number, string>()
  /** Keys that were put by a message whose number the store has not reached, by that number. */
  const unproven = new Map<string, number>()
  /** Keys that messages have changed since the last look began, by the greatest number. What it has read of them may be older. */
  const heard = new Map<string, number>()
  /** Changes with a number that was known already, since the last look: of a store that has forgotten they are new. */
  let late: [number: number, key: string][] = []
  /** `performance.now()` from which everything is loaded anew. */
  let reloadAt = 0
  let confirmed = 0
  /** The store has forgotten what is held here. `known`: the greatest number before; `change`: that of the first look after; `at`: unix ms. */
  let forgotten: { readonly known: number; readonly change: number; readonly at: number } | undefined
  let rollbacks = 0
  let mark: Mark = { state: 'decided', at: -1 }
  /** Of the latest decision that was followed; -1: none was. */
  let decidedAt = -1
  /** `performance.now()`, and ms after it. */
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
    // Pages of two stores, or of one that was emptied meanwhile, make no whole.
    if ((await readVersion()) < present || losses !== began)
      throw new Error('the store changed while it was read')
    if (closed) return
    // A page may be older than a change that was heard of meanwhile.
    const newer = [...heard].filter(([, number]) => number > present)
    for (const [key] of newer) {
      const value = held.get(key)
      if (value === undefined) all.delete(key)
      else all.set(key, value)
    }
    // Where the log does not reach back so far, nobody knows.
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

  /** What is held here and not there, though the store has told of it, and it has not ended. */
  function missingIn(all: ReadonlyMap<string, V>): string[] {
    const soon = now() + CLOCKS_DIFFER
    const missing: string[] = []
    if (version < 0) return missing
    for (const [key, value] of held.entries()) {
      if (!all.has(key) && !unproven.has(key) && endOf(value) > soon) missing.push(key)
    }
    return missing
  }

  /** Keys that have changed after that number; undefined: the log does not reach back so far. */
  async function keysSince(number: number): Promise<string[] | undefined> {
    const [length, known] = await Promise.all([
      ask(store.zcard(`${name}:log`)),
      ask(store.zcount(`${name}:log`, '-inf', number + 1)),
    ])
    // A log that was trimmed reaches back far enough when it still holds something as old as the next change.
    // What a store had before it forgot must not come back by a load of all: then what there is of the log has to do.
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

  /** The store has forgotten: what is held here holds on. */
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

  /** Tells all others, and operators, that nobody has decided yet. */
  async function markOpen(): Promise<void> {
    mark = { state: 'open', at: Math.max(now(), mark.at + 1, decidedAt + 1) }
    await ask(store.set(`${name}:rollback`, writeMark(mark)))
  }

  /** Takes over what another gateway knows, if any knows more. */
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
    // Read first: what is changed while the rest is read has a greater number, and is read again next time.
    const [present, text] = await Promise.all([readVersion(), ask(store.get(`${name}:rollback`))])
    mark = readMark(text)
    for (const [key, number] of unproven) if (number <= present) unproven.delete(key)
    const isDecided = mark.state === 'decided' && mark.at > decidedAt
    // Nothing was there, and nothing is.
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
      // Made after it has forgotten, and before that was noticed.
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
      // Where nobody writes any more, nobody else takes out what has ended.
      const ended = held.sweep()
      confirmed = asked
      markReady()
      if (ended) await sweepStore()
      // What changed during a long load is read again.
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

  /** Rejects when the store can't be read. One at a time. */
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
   * One change, as a message or our own reply tells it; either may come after something newer has been read. Of two that
   * tell different things by one number, one is not the store's: then everything is loaded anew.
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

  /** So that what has ended does not count as there. */
  async function sweepStore(): Promise<void> {
    while ((await ask(runSweep(store, name, now(), SWEEP_COUNT))) === SWEEP_COUNT && !closed);
  }

  async function put(only: 'present' | 'absent' | '', key: string, value: V | undefined): Promise<boolean> {
    const text = writeWithin(shape, key, value)
    if (shape.until !== undefined) await sweepStore()
    // The store can't tell what is there while it has forgotten some of it.
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
    // A look that is under way has not seen it.
    await polling?.catch(() => {})
    await pollOnce()
  }

  const own = subscribe && options.subscriber === undefined ? openSubscriber(store) : undefined
  const subscriber = options.subscriber ?? own
  subscriber?.listen(channel, onMessage)
  /**
   * A connection is lost, or made again: what messages have told until then is what the store had, or it has lost it. On a
   * connection that lasts, a number that the store does not have was never its own.
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

/** Anybody with access to the store may publish anything: what is no message of ours is none. */
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
