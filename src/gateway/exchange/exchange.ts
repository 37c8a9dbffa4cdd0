import type { ForwardCheck } from '../../config/snapshot/forward.js'
import type { Policy } from '../../config/snapshot/policy.js'
import type { Route, Snapshot } from '../../config/snapshot/snapshot.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import type { IdentifiedBy } from '../../config/values/credential-kinds.js'
import type { AuthPass } from '../../credentials/auth-verdict.js'
import type { ExpectedDigest } from '../../credentials/body-digest.js'
import type { TokenIdentity } from '../../credentials/tokens.js'
import type { ErrorCode } from '../../errors.js'
import type { Charge, Decision } from '../../limiter/limiter.js'
import type { Holding, Shortage } from '../../shares.js'
import type { TraceContext } from '../../telemetry/record/trace-context.js'
import type { Guard, Pass } from '../../upstream/guard/guard.js'
import type { RequestHeaders } from './headers.js'
import type { HookState } from './hook-state.js'
import type { Secured } from './tls-info.js'

/**
 * State of one request: its properties, and what the stages have found so far. It has no Fastify type, so a stage can
 * be tested without a server, and run on a line of a log.
 */
export class Exchange {
  /** Set for a connection over TLS. */
  secured: Secured | undefined
  /** Set if the client sent a trace, or the gateway records one. */
  trace: TraceContext | undefined

  // match route
  host = ''
  /** Canonical path. It is matched and forwarded. */
  path = ''
  /** Query with its `?`, or empty. */
  query = ''
  route: Route | undefined
  /** Further routes that a backend could read the path as. If one of them costs more, so does the request. */
  alsoRead: readonly Route[] | undefined

  // identify consumer
  /** Set if the application that the gateway is mounted in has identified the client. */
  application: ApplicationCaller | undefined
  clientIp: string
  consumer: string | undefined
  /** Kind of credential that identified the client. */
  identifiedBy: IdentifiedBy | undefined
  /** Index into snapshot.tiers, from the credential. */
  credentialTier: number | undefined
  /** Tenant, from the credential or otherwise from a source of tiers. */
  tenant: string | undefined
  /** Scopes of the credential; undefined if it has none. */
  scopes: readonly string[] | undefined
  /** Issuer and claims of the token. */
  token: TokenIdentity | undefined
  /** Service that has decided on the request, or was asked in vain. */
  authBy: ForwardCheck | undefined
  /** Its decision; undefined if it made none. */
  authPass: AuthPass | undefined
  /** Digest of the body, if it was signed. */
  bodyDigest: ExpectedDigest | undefined
  /** Id of an API key of the store. */
  keyId: string | undefined

  // resolve tier
  /** Index into snapshot.tiers; -1 before the stage. */
  tier = -1
  tierFrom: 'assignment' | 'credential' | 'source' | 'default' | undefined
  /** Name of the source, if the tier is from one. */
  tierSource: string | undefined
  /** True if the tier is the source's last answer, older than its ttl. */
  tierStale = false
  /** True if the store could not tell whether an operator has assigned a tier. */
  tierUnchecked = false
  /** Unix ms at which the assignment ends, if it does. */
  tierUntil: number | undefined

  // resolve limits
  /** Limits of the request; undefined if it has none, or did not reach the stage. */
  policy: Policy | undefined
  /** True if the store could not tell whether the caller has boosts or overrides. */
  limitsUnchecked = false
  /** True if the service does not count this caller. */
  exempt = false

  // admit
  guard: Guard | undefined
  /** Reservation for the request; undefined if its service has neither circuit breaker nor concurrency limit. */
  pass: Pass | undefined
  /** For an upgrade: its place among the tunnels of the service. */
  tunnel: Holding | undefined

  // take quota
  decision: Decision | undefined
  limitMs = 0
  /** True if the request was sampled to be explained later, whatever its outcome. */
  sampled: boolean | undefined
  /** Cost, if it differs from the route's: declared by the client or the upstream, or refunded. */
  cost: number | undefined
  /** Charges that are not settled yet. */
  held: Held[] | undefined

  // extensions
  /** Body that hooks wanted; undefined if none did, or there is none. */
  body: KeptBody | undefined

  // forward
  upstream: Upstream | undefined
  upstreamMs = 0
  bytesIn = 0
  bytesOut = 0
  /** Total cost that the upstream reported. */
  toldCost: number | undefined

  /** State of the hooks of extensions; undefined before the first one runs. */
  hooks: HookState | undefined

  // record
  status = 0
  error: ErrorCode | undefined
  cause: string | undefined
  durationMs = 0
  /** True once the response is closed. A later decision is settled at once. */
  over = false

  constructor(
    readonly snapshot: Snapshot,
    readonly requestId: string,
    readonly method: string,
    /** Raw request target. */
    readonly target: string,
    readonly headers: RequestHeaders,
    /** Remote address of the socket. */
    readonly peer: string,
    /** `performance.now()` at accept. */
    readonly started: number,
  ) {
    this.clientIp = peer
  }
}

/** Caller as the application names it whose server the gateway is mounted in. */
export interface ApplicationCaller {
  readonly consumer: string
  readonly tier?: string | undefined
  readonly tenant?: string | undefined
  readonly scopes?: readonly string[] | undefined
}

/** Body of a request that is kept for hooks, and sent from memory. */
export interface KeptBody {
  /** All of it; undefined if it is longer than the hooks can take, and still to be read. */
  whole: Buffer | undefined
  /** Why it was not read to its end, if not because of its length. */
  readonly shortage: Shortage | undefined
  /** True if a hook has replaced it. */
  readonly replaced: boolean
  /** The value of `whole` as JSON, once a hook has asked for it. */
  json?: unknown
  /** Drops the body, and stops reading it. */
  release(): void
}

/** Charge that waits for the end of its response (`charges.ts`). */
export interface Held {
  readonly charge: Charge
  /** Index in the list of charges with a slot to renew; -1 if not in it. */
  place: number
  /** `performance.now()` from which its slot is renewed. */
  renewAt: number
  /** Set while the store renews it. */
  renewing: Promise<void> | undefined
}
