import { isIP } from 'node:net'
import { addressOf, type Service, type Upstream } from '../../config/snapshot/snapshot.js'
import type { Sender } from '../sender.js'
import type { CheckResult } from './health-check.js'
import { type Conduct, goodConduct } from './outliers.js'

/**
 * drained: an operator took it out; ejected: it failed too often; unhealthy: its checks fail, or no connection could be
 * made; slow_start: it came back a moment ago and gets a part of its share.
 */
export type EndpointState = 'serving' | 'slow_start' | 'ejected' | 'unhealthy' | 'drained'

/**
 * The running side of one upstream of one service. It lives across reloads: a new snapshot that names the address finds it
 * warm, and drained if it was. Services have connections of their own, so that none can take another's.
 */
export interface Endpoint {
  readonly service: string
  readonly address: string
  /** As the snapshot in force has it. */
  upstream: Upstream
  /** The host, if it is a name that has to be looked up. */
  readonly name: string | undefined
  connections: number
  /** Requests at once. */
  capacity: number
  /** Opened with the first request. */
  pool: Sender | undefined
  /** The pool is to be made anew before the next request: the name moved, or the settings did. */
  stale: boolean
  inFlight: number
  /** None of those in flight. */
  tunnels: number
  /** No snapshot in force names it: the pool goes with the last request. */
  retired: boolean

  state: EndpointState
  /** `now()` at which the state began. */
  since: number
  drained: boolean
  /** By its checks. */
  failing: boolean
  /** `now()` until which it is out; 0: it is not. */
  ejectedUntil: number
  /** `now()` until which it is passed over, as no connection could be made; 0: the latest one could. */
  unreachableUntil: number
  /** `now()` at which its slow start began; 0: it has its whole share. */
  rampFrom: number
  /** Of the latest ejection or failed connection. */
  trouble: string

  conduct: Conduct
  ejections: number
  checksPassed: number
  checksFailed: number
  lastCheck: CheckResult | undefined
  /** What its checks are shared by; '' without any. */
  checkKey: string
  stopChecks: () => void
  stopNames: () => void
}

/** Share of its weight that an upstream gets at the beginning of a slow start. */
const FIRST_SHARE = 0.1
/** An address that refused a connection is passed over for this long; then one request tries. */
const UNREACHABLE_MS = 1_000

const nothing = (): void => {}

export function createEndpoint(service: Service, upstream: Upstream, now: number): Endpoint {
  const { hostname } = new URL(upstream.origin)
  return {
    service: service.name,
    address: addressOf(upstream),
    upstream,
    name: isIP(hostname) !== 0 || hostname.startsWith('[') ? undefined : hostname,
    connections: service.maxConnections,
    capacity: capacityOf(service, upstream),
    pool: undefined,
    stale: false,
    inFlight: 0,
    tunnels: 0,
    retired: false,
    state: 'serving',
    since: now,
    drained: false,
    failing: false,
    ejectedUntil: 0,
    unreachableUntil: 0,
    rampFrom: 0,
    trouble: '',
    conduct: goodConduct(),
    ejections: 0,
    checksPassed: 0,
    checksFailed: 0,
    lastCheck: undefined,
    checkKey: '',
    stopChecks: nothing,
    stopNames: nothing,
  }
}

/** HTTP/2 carries many requests on a connection; servers mostly allow a hundred. */
const STREAMS = 100

export function capacityOf({ maxConnections }: Service, { protocol }: Upstream): number {
  return protocol === 'http2' ? maxConnections * STREAMS : maxConnections
}

/** Works the state out again after something that it is made of has changed, at the given time. */
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

/** Lets time do its part: an ejection ends, a slow start is over. */
export function settle(endpoint: Endpoint, slowStart: number, now: number): void {
  const { ejectedUntil } = endpoint
  if (ejectedUntil !== 0 && ejectedUntil <= now) {
    endpoint.ejectedUntil = 0
    cameBack(endpoint, slowStart, ejectedUntil)
  }
  const { rampFrom } = endpoint
  if (rampFrom !== 0 && rampFrom + slowStart <= now) {
    endpoint.rampFrom = 0
    restate(endpoint, rampFrom + slowStart)
  }
}

/** It is given requests again, or for the first time. */
export function cameBack(endpoint: Endpoint, slowStart: number, at: number): void {
  endpoint.rampFrom = slowStart === 0 ? 0 : at
  restate(endpoint, at)
}

/** Whether it is left out. One that could not be reached lately may be tried again. */
export function isOut({ drained, ejectedUntil, failing, unreachableUntil }: Endpoint, now: number): boolean {
  return drained || failing || ejectedUntil !== 0 || unreachableUntil > now
}

/** Its weight, or the part of it that it gets in its slow start. */
export function shareOf(
  { upstream: { weight }, rampFrom }: Endpoint,
  slowStart: number,
  now: number,
): number {
  if (rampFrom === 0) return weight
  return weight * Math.min(1, Math.max(FIRST_SHARE, (now - rampFrom) / slowStart))
}

/** No connection could be made to it. */
export function couldNotReach(endpoint: Endpoint, why: string, now: number): void {
  endpoint.unreachableUntil = now + UNREACHABLE_MS
  endpoint.trouble = why
  restate(endpoint, now)
}

/** One request finds out whether it is there again; until it has, the others go on passing it over. */
export function tryAgain(endpoint: Endpoint, now: number): void {
  if (endpoint.unreachableUntil !== 0) endpoint.unreachableUntil = now + UNREACHABLE_MS
}
