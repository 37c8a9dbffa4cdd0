import { askStore } from './ask.js'
import { type Log, onceASecond } from './degraded.js'
import type { TierAssignments } from './limiter.js'
import { type Client, runAssign } from './scripts.js'
import { channelOf, openSubscriber, type Subscriber } from './subscriber.js'

export interface RedisAssignmentsOptions {
  /** From `connectStore`; stays the caller's to disconnect. */
  readonly store: Client
  readonly log: Log
  /** Stays the caller's to close; by default one of its own. */
  readonly subscriber?: Subscriber
  /** Ms between two looks at the store's version number, for changes whose message got lost. */
  readonly pollMs?: number
  /** Tests only: without messages, so that only the poll is left. */
  readonly subscribe?: boolean
}

/** One hash tag, so that one script may write them all in a Cluster. */
const HASH = 'tier:{assignments}'
const VERSION = 'tier:{assignments}:version'
const LOG = 'tier:{assignments}:log'
const LOG_LENGTH = 10_000
const SCAN_COUNT = 1000
const TIMEOUT = 1000
/** Ms: a server that lost a change and has since numbered others so far is not seen through otherwise. */
const RELOAD_EVERY = 300_000
const LONGEST_CONSUMER = 1024

/** Assignments of one process, gone with it. */
export function createMemoryAssignments(): TierAssignments {
  const tiers = new Map<string, string>()
  return {
    get: (consumer) => tiers.get(consumer),
    async set(consumer, tier) {
      checkConsumer(consumer)
      if (tier === undefined) tiers.delete(consumer)
      else tiers.set(consumer, tier)
    },
    read: async (consumer) => tiers.get(consumer),
    ready: Promise.resolve(),
    async close() {},
  }
}

function checkConsumer(consumer: string): void {
  if (consumer.length > LONGEST_CONSUMER) {
    throw new Error(`the consumer id is longer than ${LONGEST_CONSUMER} characters; no assignment is stored`)
  }
}

/**
 * Assignments in Redis, held whole in a Map. A change has a number; a message brings it at once, and a poll compares
 * numbers and reads what is missing from the log of changes. Everything is loaded anew when the log does not reach
 * back far enough, and after a connection was lost: the server behind it may have lost data, or be another.
 * While the store is away the last known assignments hold.
 */
export function createRedisAssignments(options: RedisAssignmentsOptions): TierAssignments {
  const { store, log, pollMs = 500, subscribe = true } = options
  const channel = channelOf(store, 'tier:{assignments}:changed')
  const warn = onceASecond((fields, message) => log.warn(fields, message))
  let tiers = new Map<string, string>()
  /** Number of the change up to which `tiers` is complete; -1: everything has to be loaded. */
  let version = -1
  /** `performance.now()` of the last full load. */
  let loaded = 0
  let closed = false
  let polling = false
  let timer: NodeJS.Timeout | undefined
  let markReady = () => {}
  const ready = new Promise<void>((resolve) => {
    markReady = resolve
  })

  function put(map: Map<string, string>, consumer: string, tier: string | null | undefined): void {
    if (tier) map.set(consumer, tier)
    else map.delete(consumer)
  }

  const ask = <T>(question: Promise<T>) => askStore(TIMEOUT, question)

  async function loadAll(present: number): Promise<void> {
    const all = new Map<string, string>()
    let cursor = '0'
    do {
      const page: [string, string[]] = await ask(store.hscan(HASH, cursor, 'COUNT', SCAN_COUNT))
      const pairs = page[1]
      for (let i = 0; i + 1 < pairs.length; i += 2) put(all, pairs[i]!, pairs[i + 1])
      cursor = page[0]
    } while (cursor !== '0' && !closed)
    tiers = all
    version = present
    loaded = performance.now()
  }

  async function loadChanges(present: number): Promise<void> {
    const [length, known] = await Promise.all([
      ask(store.zcard(LOG)),
      ask(store.zcount(LOG, '-inf', version + 1)),
    ])
    // A log that was trimmed reaches back far enough when it still holds something as old as the next change.
    if (length >= LOG_LENGTH && known === 0) return loadAll(present)
    const consumers = await ask(store.zrangebyscore(LOG, version + 1, '+inf'))
    if (consumers.length > 0) {
      const found = await ask(store.hmget(HASH, ...consumers))
      consumers.forEach((consumer, i) => {
        put(tiers, consumer, found[i])
      })
    }
    version = present
  }

  async function poll(): Promise<void> {
    if (store.status !== 'ready') return
    // Read first: what is changed while the rest is read has a greater number, and is read again next time.
    const present = Number(await ask(store.get(VERSION)))
    if (version < 0 || present < version || performance.now() - loaded > RELOAD_EVERY) {
      await loadAll(present)
      markReady()
      // What messages brought during a long load may have been overwritten by an older page of it.
      if (!closed) return poll()
    } else if (present > version) await loadChanges(present)
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
        if (!closed) warn({ error: (error as Error).message }, 'tier assignments: keeping the last known')
      })
      .finally(() => {
        polling = false
        if (!closed) schedule()
      })
  }

  /** One change, as a message or our own reply tells it; either may come after something newer has been read. */
  function apply(number: number, consumer: string, tier: string | undefined): void {
    if (number <= version) return
    put(tiers, consumer, tier)
    if (number === version + 1) version = number
  }

  function onMessage(message: string): void {
    const [number, consumer, tier] = readMessage(message)
    if (number !== undefined) apply(number, consumer, tier)
  }

  const own = subscribe && options.subscriber === undefined ? openSubscriber(store) : undefined
  const subscriber = options.subscriber ?? own
  subscriber?.listen(channel, onMessage)
  const reload = () => {
    version = -1
  }
  store.on('close', reload)
  store.on('ready', tick)
  tick()

  return {
    get: (consumer) => tiers.get(consumer),
    async set(consumer, tier) {
      checkConsumer(consumer)
      if (tier === '') throw new Error('a tier has a name; leave it undefined to remove the assignment')
      const keys = [HASH, VERSION, LOG] as const
      const number = await ask(runAssign(store, keys, consumer, tier ?? '', channel, LOG_LENGTH))
      apply(number, consumer, tier)
    },
    async read(consumer) {
      return (await ask(store.hget(HASH, consumer))) ?? undefined
    },
    ready,
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
    const [number, consumer, tier] = parsed as unknown[]
    const ours = Number.isSafeInteger(number) && typeof consumer === 'string' && typeof tier === 'string'
    return ours ? [number as number, consumer, tier] : [undefined]
  } catch {
    return [undefined]
  }
}
