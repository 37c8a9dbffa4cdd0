import { isIP } from 'node:net'
import type { Service } from '../../config/snapshot/snapshot.js'
import { addressOf, type Upstream } from '../../config/snapshot/upstream-settings.js'
import type { Share } from '../../shares.js'
import type { Sender } from '../sender.js'
import type { CheckResult } from './health-check.js'
import { goodConduct } from './outliers.js'
import type { WaitQueue } from './wait-queue.js'

/** Share of its weight that an upstream gets at the beginning of a slow start. */
const FIRST_SHARE = 0.1
/** Ms for which an address that refused a connection is passed over; then one request tries it. */
const UNREACHABLE_MS = 1_000

const nothing = (): void => {}

/**
 * drained: an operator took it out; ejected: it failed too often; unhealthy: its checks fail, or it refused
 * connections; slow_start: it came back a moment ago and gets a part of its share.
 */
export type EndpointState = 'serving' | 'slow_start' | 'ejected' | 'unhealthy' | 'drained'

/** State that the upstreams of a service share, across reloads. */
export interface Group {
  /** Settings in the snapshot in force. */
  service: Service
  /** Endpoints of the snapshot in force. */
  endpoints: readonly Endpoint[]
  readonly queue: Pick<WaitQueue<never>, 'length' | 'wake'>
  /** Share of the connections, while they are scarce. */
  readonly share: Share | undefined
}

/**
 * Runtime state of one upstream of one service. It lives across reloads: a new snapshot with the same address finds it
 * warm, and drained if it was. Each service has connections of its own, so that none can take another's.
 */
export class Endpoint {
  readonly address: string
  /** Hostname, if it must be resolved. */
  readonly name: string | undefined
  connections: number
  /** Most requests at once. */
  capacity: number
  /** Opened with the first request. */
  pool: Sender | undefined
  /** True if the pool must be replaced before the next request: the address or the settings changed. */
  stale = false
  inFlight = 0
  /** Open tunnels; not included in the requests in flight. */
  tunnels = 0
  /** True if the snapshot in force does not contain it: the pool is closed after the last request. */
  retired = false

  state: EndpointState = 'serving'
  drained = false
  /** True if its health checks fail. */
  failing = false
  /** `now()` until which it is ejected; 0: it is not. */
  ejectedUntil = 0
  /** `now()` until which it is passed over after a failed connection; 0: the latest one succeeded. */
  unreachableUntil = 0
  /** `now()` at which its slow start began; 0: it has its whole share. */
  rampFrom = 0
  /** Reason of the latest ejection or failed connection. */
  trouble = ''

  conduct = goodConduct()
  ejections = 0
  checksPassed = 0
  checksFailed = 0
  lastCheck: CheckResult | undefined
  /** Key under which its checks are shared; '' without checks. */
  checkKey = ''
  stopChecks = nothing
  stopNames = nothing

  /**
   * @param service settings of the snapshot that has this upstream
   * @param upstream settings in the snapshot in force
   * @param since `now()` at which the state began
   */
  constructor(
    readonly group: Group,
    service: Service,
    public upstream: Upstream,
    public since: number,
  ) {
    const { hostname } = new URL(upstream.origin)
    this.address = addressOf(upstream)
    this.name = isIP(hostname) !== 0 || hostname.startsWith('[') ? undefined : hostname
    this.connections = service.maxConnections
    this.capacity = capacityOf(service, upstream)
  }
}

/** Streams assumed per HTTP/2 connection; most servers allow a hundred. */
const STREAMS = 100

export function capacityOf({ maxConnections }: Service, { protocol }: Upstream): number {
  return protocol === 'http2' ? maxConnections * STREAMS : maxConnections
}

/** Recomputes the state at the given time, after one of its inputs has changed. */
export function restate(endpoint: Endpoint, at: number): void {
  const { drained, ejectedUntil, failing, unreachableUntil, rampFrom } = endpoint
  const state = drained
    ? 'drained'
    : ejectedUntil !== 0
      ? 'ejected'
      : failing || unreachableUntil !== 0
        ? 'unhealthy'
        : rampFrom !== 0
          ? 'slow_start'
          : 'serving'
  if (state === endpoint.state) return
  endpoint.state = state
  endpoint.since = at
}

/** Applies the passage of time: ends an ejection or a slow start. */
export function settle(endpoint: Endpoint, now: number): void {
  const { ejectedUntil } = endpoint
  if (ejectedUntil !== 0 && ejectedUntil <= now) {
    endpoint.ejectedUntil = 0
    cameBack(endpoint, ejectedUntil)
  }
  const { rampFrom } = endpoint
  const { slowStart } = endpoint.group.service
  if (rampFrom !== 0 && rampFrom + slowStart <= now) {
    endpoint.rampFrom = 0
    restate(endpoint, rampFrom + slowStart)
  }
}

/** Starts to give it requests again, or for the first time. */
export function cameBack(endpoint: Endpoint, at: number): void {
  endpoint.rampFrom = endpoint.group.service.slowStart === 0 ? 0 : at
  restate(endpoint, at)
}

/** Returns true if it must be left out. One that was unreachable lately may be retried. */
export function isOut({ drained, ejectedUntil, failing, unreachableUntil }: Endpoint, now: number): boolean {
  return drained || failing || ejectedUntil !== 0 || unreachableUntil > now
}

/** Returns its weight, or the part of it during a slow start. */
export function shareOf({ upstream: { weight }, rampFrom, group }: Endpoint, now: number): number {
  if (rampFrom === 0) return weight
  return weight * Math.min(1, Math.max(FIRST_SHARE, (now - rampFrom) / group.service.slowStart))
}

/** Records that no connection could be made to it. */
export function couldNotReach(endpoint: Endpoint, why: string, now: number): void {
  endpoint.unreachableUntil = now + UNREACHABLE_MS
  endpoint.trouble = why
  restate(endpoint, now)
}

/** Lets one request try whether it is reachable again; until that is known, other requests pass it over. */
export function tryAgain(endpoint: Endpoint, now: number): void {
  if (endpoint.unreachableUntil !== 0) endpoint.unreachableUntil = now + UNREACHABLE_MS
}
