import type { ConfigSource, ConfigStatus } from '../config/load/reload.js'
import type { Heartbeat } from '../limiter/redis/heartbeat.js'
import { FRESH_MS, MOST_RECEIPTS, type ProcessStatus, type Receipt, shownText } from './gateway-status.js'
import type { ForgettableMap } from './replicated-map.js'

export interface OwnStatusOptions {
  /** Id of the gateway; its workers share it. */
  readonly gateway: string
  /** Number of the worker; undefined: the process is the whole gateway. */
  readonly worker: number | undefined
  readonly version: string
  readonly config: Pick<ConfigSource, 'current' | 'status'>
  readonly draining: () => boolean
  readonly degraded: () => boolean
  readonly faults: () => readonly string[]
  /** Returns the maps of which this process holds a copy. */
  readonly maps: () => readonly Pick<ForgettableMap, 'history' | 'confirmedAt'>[]
  /** Returns the number of finished requests. */
  readonly requests: () => number
  /** Resolves when the store has answered for the first time. */
  readonly ready: Promise<void>
  /** Sends the status to the store. Undefined: it only answers questions. */
  readonly heartbeat: Pick<Heartbeat, 'setStatus'> | undefined
  /** Clock, in unix ms. */
  readonly now?: () => number
}

/** Status of this process, for operators and other gateways. */
export type OwnStatus = ReturnType<typeof createOwnStatus>

/** Interval at which a changed status is handed to the heartbeat, in ms. */
const LOOK_EVERY = 1000
/** Span over which requests are counted, in ms. */
const RATE_SPAN = 5000
const MOST_FAULTS = 8

/** Creates the status of this process, and hands it to the heartbeat whenever it has changed. */
export function createOwnStatus(options: OwnStatusOptions) {
  const { config, heartbeat, now = Date.now } = options
  const started = now()
  let receipts: readonly Receipt[] = []
  let rate = 0
  /** True once the store has answered. */
  let isUp = false
  let counted = { requests: options.requests(), at: performance.now() }

  function countRequests(): void {
    const at = performance.now()
    if (at - counted.at < RATE_SPAN) return
    const requests = options.requests()
    // Two digits, because each change is written into the store.
    rate = Number((((requests - counted.requests) * 1000) / (at - counted.at)).toPrecision(2))
    counted = { requests, at }
  }

  function receiptsNow(): readonly Receipt[] {
    const { hash, loadedAt: at } = config.current()
    if (receipts[0]?.hash !== hash) receipts = [{ hash, at }, ...receipts].slice(0, MOST_RECEIPTS)
    return receipts
  }

  function read(): ProcessStatus {
    const lags = options.maps().map((map) => ({
      what: map.history().what,
      ms: now() - Math.max(map.confirmedAt(), started),
    }))
    const late = lags.filter(({ ms }) => ms > FRESH_MS)
    const { gateway, worker = null, version } = options
    return {
      gateway,
      worker,
      group: config.current().config.group ?? null,
      version,
      started,
      receipts: receiptsNow(),
      rejected: rejectedOf(config.status().lastError),
      draining: options.draining(),
      degraded: options.degraded(),
      faults: options.faults().slice(0, MOST_FAULTS).map(shownText),
      // Whole seconds: each change is written into the store.
      lagMs: Math.max(0, ...late.map(({ ms }) => Math.round(ms / 1000) * 1000)),
      behind: late.map(({ what }) => what),
      rate,
    }
  }

  function look(): void {
    countRequests()
    const status = JSON.stringify(read())
    // Until the store has answered, the status says degraded. The others should not hear that first.
    if (isUp) heartbeat?.setStatus(status)
  }
  look()
  void options.ready.then(() => {
    isUp = true
    look()
  })
  const timer = setInterval(look, LOOK_EVERY).unref()
  return {
    read,
    /** Notes the configuration in force, and hands a changed status to the heartbeat. Done once a second, too. */
    look,
    close: (): void => clearInterval(timer),
  }
}

function rejectedOf(error: ConfigStatus['lastError']): ProcessStatus['rejected'] {
  if (error === null) return null
  const [first = '', ...more] = error.messages
  const message = more.length === 0 ? first : `${first} (and ${more.length} more)`
  return { at: Date.parse(error.at), message: shownText(message) }
}
