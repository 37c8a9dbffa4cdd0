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

/** What the admin server is made of. It opens no socket and no store itself. */
export interface AdminDeps {
  readonly config: ConfigControl
  readonly limiter: Limiter
  readonly assignments: TierAssignments
  readonly bans: ReplicatedMap<Ban>
  /** What the next request of a consumer has before its quota is looked at. */
  readonly standing: (question: StandingQuestion) => Promise<Standing>
  readonly amounts: Pick<Amounts, 'policyFor' | 'map'>
  /** The API keys of the store. */
  readonly keys: KeyStore
  /** Maps that the store keeps for all gateways and may forget, as far as they are open here. */
  readonly maps: () => readonly ForgettableMap[]
  readonly upstreams: UpstreamControl
  readonly audit: Audit
  /** What stands between requests and the upstreams of each service, in this process or in all workers. */
  readonly guards: { describe(): readonly GuardState[] | Promise<readonly GuardState[]> }
  /** Who is limited now and the like, on all gateways of the store. */
  readonly top: (question: TopQuestion) => Promise<TopOfAll>
  readonly metrics: {
    traffic(): Traffic | Promise<Traffic>
    scrape(format: TextFormat): Promise<string>
  }
  /** What is known of a request, or of a consumer, on all gateways of the store. */
  readonly decisions: (question: DecisionQuestion) => Promise<DecisionAnswer>
  /** What would become of a request that was never sent. */
  readonly explain: (question: ExplainQuestion) => Promise<Explained>
  /** `reasons` say what is missing when not ready, and what is out of order when ready all the same. */
  readonly ready: () => Readiness | Promise<Readiness>
  /** Who may come, and do what. Without any token only loopback is served. */
  readonly access: Access
  /** Left out: shares of its own, and no proxy is trusted. */
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
  /** Undefined: there is no such upstream. */
  setState(
    service: string,
    address: string,
    state: 'drained' | 'serving',
  ): UpstreamState | undefined | Promise<UpstreamState | undefined>
}

/** The part of the configuration's source that is seen from here. */
export interface ConfigControl {
  current(): Snapshot
  /** Plain data without secrets, shown as it is. */
  status(): object
  /** `messages`: what is wrong with a rejected file, `file:line:column: …` each. */
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
