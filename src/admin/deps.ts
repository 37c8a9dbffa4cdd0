import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { Ban } from '../fleet/bans.js'
import type { KeyStore } from '../fleet/keyring.js'
import type { Amounts } from '../fleet/overrides.js'
import type { ForgettableMap, ReplicatedMap } from '../fleet/replicated-map.js'
import type { Limiter, TierAssignments } from '../limiter/limiter.js'
import type { Shares } from '../shares.js'
import type { DecisionAnswer } from '../telemetry/decisions/all-gateways-decisions.js'
import type { DecisionQuestion } from '../telemetry/decisions/decision-data.js'
import type { Explained, ExplainQuestion } from '../telemetry/decisions/explained-decision.js'
import type { Standing, StandingQuestion } from '../telemetry/decisions/standing.js'
import type { TextFormat } from '../telemetry/export/text-format.js'
import type { Traffic } from '../telemetry/metrics/overview.js'
import type { TopOfAll } from '../telemetry/top/all-gateways-top.js'
import type { TopQuestion } from '../telemetry/top/top.js'
import type { GuardState } from '../upstream/guard/guard.js'
import type { UpstreamState } from '../upstream/pool/state.js'
import type { Access } from './access/access.js'
import type { Audit } from './access/audit.js'

/** Parts that the admin server needs. It opens no socket and no store itself. */
export interface AdminDeps {
  readonly config: ConfigControl
  readonly limiter: Limiter
  readonly assignments: TierAssignments
  readonly bans: ReplicatedMap<Ban>
  /** Returns the consumer, tier and tenant of the next request of a consumer, before its quota is checked. */
  readonly standing: (question: StandingQuestion) => Promise<Standing>
  readonly amounts: Pick<Amounts, 'policyFor' | 'map'>
  /** API keys of the store. */
  readonly keys: KeyStore
  /** Returns the maps that this process has open, of those that the store keeps for all gateways and may lose. */
  readonly maps: () => readonly ForgettableMap[]
  readonly upstreams: UpstreamControl
  readonly audit: Audit
  /** Guards (circuit breaker, concurrency limit, retry budget) of each service, in this process or in all workers. */
  readonly guards: { describe(): readonly GuardState[] | Promise<readonly GuardState[]> }
  /** Finds the consumers that are limited now and the like, on all gateways of the store. */
  readonly top: (question: TopQuestion) => Promise<TopOfAll>
  readonly metrics: {
    traffic(): Traffic | Promise<Traffic>
    scrape(format: TextFormat): Promise<string>
  }
  /** Finds what is known about a request or a consumer, on all gateways of the store. */
  readonly decisions: (question: DecisionQuestion) => Promise<DecisionAnswer>
  /** Explains what would happen to a request, without sending it. */
  readonly explain: (question: ExplainQuestion) => Promise<Explained>
  /** `reasons` say what is missing when not ready, and what is faulty when ready. */
  readonly ready: () => Readiness | Promise<Readiness>
  /** Authentication and roles. Without any token, only loopback is served. */
  readonly access: Access
  /** If left out, the server has shares of its own and trusts no proxy. */
  readonly shares?: Shares
  readonly log: AdminLog
}

export interface Readiness {
  readonly ready: boolean
  readonly reasons: readonly string[]
}

/** The upstreams of this process, or of all workers. */
export interface UpstreamControl {
  describe(): readonly UpstreamState[] | Promise<readonly UpstreamState[]>
  /** Sets the state of an upstream; resolves with undefined if it does not exist. */
  setState(
    service: string,
    address: string,
    state: 'drained' | 'serving',
  ): UpstreamState | undefined | Promise<UpstreamState | undefined>
}

/** The part of the configuration source that the admin server uses. */
export interface ConfigControl {
  current(): Snapshot
  /** Returns plain data without secrets, shown unchanged. */
  status(): object
  /** Reloads. `messages` are the faults of a rejected file, each as `file:line:column: …`. */
  reload(trigger: 'admin'): Promise<{
    readonly result: 'applied' | 'rejected' | 'unchanged'
    readonly messages?: readonly string[]
  }>
}

export interface AdminLog {
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}
