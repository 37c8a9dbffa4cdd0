import type { Route, Snapshot, Upstream } from '../config/snapshot.js'
import type { ErrorCode } from '../errors.js'
import type { Decision } from '../limiter/limiter.js'
import type { RequestHeaders } from './headers.js'

/**
 * One request on its way: what it asked for, and what the stages found so far. Knows no Fastify type, so a stage
 * is tested without a server and can be run over a line of a log.
 */
export interface Exchange {
  readonly snapshot: Snapshot
  readonly requestId: string
  readonly method: string
  /** The raw request target. */
  readonly target: string
  readonly headers: RequestHeaders
  /** The socket's remote address. */
  readonly peer: string
  /** `performance.now()` at accept. */
  readonly started: number

  // match route
  host: string
  /** Canonical path: what was matched is what is forwarded. */
  path: string
  /** With its `?`, or empty. */
  query: string
  route: Route | undefined

  // identify consumer
  clientIp: string
  consumer: string | undefined
  /** How the caller was identified. */
  identifiedBy: 'api_key' | 'header' | 'ip' | undefined
  /** Index into snapshot.tiers that came with the credential. */
  credentialTier: number | undefined

  // resolve tier
  /** Index into snapshot.tiers, -1 before the stage. */
  tier: number
  tierFrom: 'assignment' | 'credential' | 'default' | undefined

  // take quota
  decision: Decision | undefined
  limitMs: number

  // forward
  upstream: Upstream | undefined
  upstreamMs: number
  bytesIn: number
  bytesOut: number

  // record
  status: number
  error: ErrorCode | undefined
  cause: string | undefined
  durationMs: number
}

/** An exchange as it enters the first stage. */
export function createExchange(
  snapshot: Snapshot,
  requestId: string,
  method: string,
  target: string,
  headers: RequestHeaders,
  peer: string,
  started: number,
): Exchange {
  return {
    snapshot,
    requestId,
    method,
    target,
    headers,
    peer,
    started,
    host: '',
    path: '',
    query: '',
    route: undefined,
    clientIp: peer,
    consumer: undefined,
    identifiedBy: undefined,
    credentialTier: undefined,
    tier: -1,
    tierFrom: undefined,
    decision: undefined,
    limitMs: 0,
    upstream: undefined,
    upstreamMs: 0,
    bytesIn: 0,
    bytesOut: 0,
    status: 0,
    error: undefined,
    cause: undefined,
    durationMs: 0,
  }
}
