import type { Policy, Route, Snapshot, Upstream } from '../../config/snapshot/snapshot.js'
import type { ExpectedDigest } from '../../credentials/body-digest.js'
import type { TokenIdentity } from '../../credentials/tokens.js'
import type { ErrorCode } from '../../errors.js'
import type { Counted } from '../../limiter/limit-readings.js'
import type { Charge, Decision } from '../../limiter/limiter.js'
import type { Holding } from '../../shares.js'
import type { TraceContext } from '../../telemetry/record/trace-context.js'
import type { Guard, Pass } from '../../upstream/guard/guard.js'
import type { RequestHeaders } from './headers.js'
import type { Secured } from './tls-info.js'

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
  /** Of a connection over TLS. */
  secured: Secured | undefined
  /** Where its caller names one, or the gateway records it. */
  trace: TraceContext | undefined

  // match route
  host: string
  /** Canonical path: what was matched is what is forwarded. */
  path: string
  /** With its `?`, or empty. */
  query: string
  route: Route | undefined
  /** Routes that a backend could take its path for: where they cost more, so does the request. */
  alsoRead: readonly Route[] | undefined

  // identify consumer
  clientIp: string
  consumer: string | undefined
  /** How the caller was identified. */
  identifiedBy: 'api_key' | 'client_certificate' | 'header' | 'jwt' | 'signature' | 'ip' | undefined
  /** Index into snapshot.tiers that came with the credential. */
  credentialTier: number | undefined
  /** Came with the credential, or else from a source of tiers. */
  tenant: string | undefined
  /** What the credential may do, where it says; undefined: it does not. */
  scopes: readonly string[] | undefined
  /** Whose token it was, and what it says. */
  token: TokenIdentity | undefined
  /** Of the body, where it was signed. */
  bodyDigest: ExpectedDigest | undefined
  /** Of an API key of the store. */
  keyId: string | undefined

  // resolve tier
  /** Index into snapshot.tiers, -1 before the stage. */
  tier: number
  tierFrom: 'assignment' | 'credential' | 'source' | 'default' | undefined
  /** Name of the source, where the tier is from one. */
  tierSource: string | undefined
  /** It is what the source said last, longer ago than its ttl. */
  tierStale: boolean
  /** Unix ms at which the assignment ends by itself, where it does. */
  tierUntil: number | undefined

  // admit
  guard: Guard | undefined
  /** What was reserved for it; undefined where its service has neither circuit breaker nor limit of concurrency. */
  pass: Pass | undefined
  /** Of an upgrade: its place among the tunnels of the service. */
  tunnel: Holding | undefined

  // take quota
  /** The limits that hold for it; undefined: none, or the stage was not reached. */
  policy: Policy | undefined
  decision: Decision | undefined
  limitMs: number
  /** Whether it is one of those that are kept to be explained, where that is not for its outcome. */
  sampled: boolean | undefined
  /** Of such a one: how its limits stood. */
  counted: Counted | undefined
  /** What it has cost, where that is not its route's own: said by the caller or the upstream, or given back. */
  cost: number | undefined
  /** What was charged and is not settled yet. */
  held: Held[] | undefined

  // forward
  upstream: Upstream | undefined
  upstreamMs: number
  bytesIn: number
  bytesOut: number
  /** What the upstream says that the request has cost in all. */
  toldCost: number | undefined

  // record
  status: number
  error: ErrorCode | undefined
  cause: string | undefined
  durationMs: number
  /** Its response is closed. A decision that comes now is settled at once. */
  over: boolean
}

/** A charge that waits for the end of its response (`charges.ts`). */
export interface Held {
  readonly charge: Charge
  /** Where it stands in the list of those whose slot is renewed, -1 when it does not. */
  place: number
  /** `performance.now()` from which its slot is renewed. */
  renewAt: number
  /** While the store is renewing it. */
  renewing: Promise<void> | undefined
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
    secured: undefined,
    trace: undefined,
    host: '',
    path: '',
    query: '',
    route: undefined,
    alsoRead: undefined,
    clientIp: peer,
    consumer: undefined,
    identifiedBy: undefined,
    credentialTier: undefined,
    tenant: undefined,
    scopes: undefined,
    token: undefined,
    bodyDigest: undefined,
    keyId: undefined,
    tier: -1,
    tierFrom: undefined,
    tierSource: undefined,
    tierStale: false,
    tierUntil: undefined,
    guard: undefined,
    pass: undefined,
    tunnel: undefined,
    policy: undefined,
    decision: undefined,
    limitMs: 0,
    sampled: undefined,
    counted: undefined,
    cost: undefined,
    held: undefined,
    upstream: undefined,
    upstreamMs: 0,
    bytesIn: 0,
    bytesOut: 0,
    toldCost: undefined,
    status: 0,
    error: undefined,
    cause: undefined,
    durationMs: 0,
    over: false,
  }
}
