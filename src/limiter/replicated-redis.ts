import { askStore } from './ask.js'
import { type Log, onceASecond } from './degraded.js'
import { createHeld, fullError, type MapShape, type ReplicatedMap, writeWithin } from './replicated.js'
import { type Client, runPut, runSweep } from './scripts.js'
import { channelOf, openSubscriber, type Subscriber } from './subscriber.js'

export interface RedisMapOptions {
  /** From `connectStore`; stays the caller's to disconnect. */
  readonly store: Client
  readonly log: Log
  /** Stays the caller's to close; by default one of its own. */
  readonly subscriber?: Subscriber
  /** Ms between two looks at the store's version number, for changes whose message got lost. */
  readonly pollMs?: number
  /** Tests only: without messages, so that only the poll is left. */
  readonly subscribe?: boolean
  /** Unix ms: for values that end, and for `confirmedAt`. */
  readonly now?: () => number
}

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

/**
 * A map in Redis, held whole in memory. A change has a number; a message brings it at once, and a poll compares
 * numbers and reads what is missing from the log of changes. Everything is loaded anew when the log does not reach
 * back far enough, and after a connection was lost: the server behind it may have lost data, or be another.
 * While the store is away the last known values hold.
 */
export function createRedisMap<V>(shape: MapShape<V>, options: RedisMapOptions): ReplicatedMap<V> {
  const { store, log, pollMs = 500, subscribe = true, now = Date.now } = options
  const { name } = shape
  const channel = channelOf(store, `${name}:changed`)
  const warn = onceASecond((fields, message) => log.warn(fields, message))
  const held = createHeld(shape, now)
  /** Number of the change up to which `held` is complete; -1: it is not. */
  let version = -1
  /** Everything is to be loaded. Apart from `version`, so that a load which is under way does not take the wish for its own. */
  let loadAnew = true
  /** The latest changes that were believed without asking the store, by their numbers. */
  const told = new Map<number, string>()
  /** `performance.now()` from which everything is loaded anew. */
  let reloadAt = 0
  let confirmed = 0
  let closed = false
  let polling = false
  let timer: NodeJS.Timeout | undefined
  let markReady = () => {}
  const ready = new Promise<void>((resolve) => {
    markReady = resolve
  })

  const parse = (text: string | null | undefined) => (text ? shape.parse(text) : undefined)
  const ask = <T>(question: Promise<T>) => askStore(TIMEOUT, question)

  async function loadAll(present: number): Promise<void> {
    const all = new Map<string, V>()
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
    if (closed) return
    held.replace(all)
    version = present
    told.clear()
    reloadAt = performance.now() + RELOAD_EVERY + all.size * RELOAD_EVERY_VALUE
  }

  async function loadChanges(present: number): Promise<void> {
    const [length, known] = await Promise.all([
      ask(store.zcard(`${name}:log`)),
      ask(store.zcount(`${name}:log`, '-inf', version + 1)),
    ])
    // A log that was trimmed reaches back far enough when it still holds something as old as the next change.
    if (length >= LOG_LENGTH && known === 0) return loadAll(present)
    const keys = await ask(store.zrangebyscore(`${name}:log`, version + 1, '+inf'))
    if (keys.length > 0) {
      const found = await ask(store.hmget(name, ...keys))
      keys.forEach((key, i) => {
        held.put(key, parse(found[i]))
      })
    }
    version = present
  }

  async function poll(): Promise<void> {
    held.sweep()
    if (store.status !== 'ready') return
    const asked = now()
    // Read first: what is changed while the rest is read has a greater number, and is read again next time.
    const present = Number(await ask(store.get(`${name}:version`)))
    if (loadAnew || present < version || performance.now() > reloadAt) {
      loadAnew = false
      await loadAll(present).catch((error: unknown) => {
        loadAnew = true
        throw error
      })
      confirmed = asked
      markReady()
      // Where nobody writes any more, nobody else takes out what has ended.
      if (held.sweep()) await sweepStore()
      // What messages brought during a long load may have been overwritten by an older page of it.
      if (!closed && !loadAnew) return poll()
    } else if (present > version) await loadChanges(present)
    confirmed = asked
  }

  function schedule(): void {
    clearTimeout(timer)
    timer = setTimeout(tick, pollMs * (0.8 + Math.random() * 0.2))
    timer.unref()
  }

  function tick(): void {
    if (polling || closed) return
    polling = true
    poll()
      .catch((error: unknown) => {
        if (!closed) warn({ error: (error as Error).message }, `${shape.what}: keeping the last known`)
      })
      .finally(() => {
        polling = false
        if (!closed) schedule()
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
      if (before !== undefined && before !== change) loadAnew = true
      return
    }
    held.put(key, parse(text))
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
    apply(number, key, text)
    return true
  }

  const own = subscribe && options.subscriber === undefined ? openSubscriber(store) : undefined
  const subscriber = options.subscriber ?? own
  subscriber?.listen(channel, onMessage)
  const reload = () => {
    version = -1
    loadAnew = true
  }
  store.on('close', reload)
  store.on('ready', tick)
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
      const value = parse(await ask(store.hget(name, key)))
      const end = value === undefined ? undefined : shape.until?.(value)
      return end !== undefined && end <= now() ? undefined : value
    },
    ready,
    confirmedAt: () => confirmed,
    async close() {
      closed = true
      clearTimeout(timer)
      store.off('close', reload)
      store.off('ready', tick)
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
