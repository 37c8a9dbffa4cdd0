import type { ConfigStatus } from '../config/load/reload.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { Bans } from '../fleet/bans.js'
import type { Store } from '../fleet/open-store.js'
import type { Ask } from '../fleet/question.js'
import type { Heartbeat } from '../limiter/redis/heartbeat.js'
import type { Shares } from '../shares.js'
import type { Explained, ExplainQuestion } from '../telemetry/decisions/explained-decision.js'
import type { Standing, StandingQuestion } from '../telemetry/decisions/standing.js'
import type { TextFormat } from '../telemetry/export/text-format.js'
import type { History } from '../telemetry/history/history.js'
import type { LimitCounts, Traffic } from '../telemetry/metrics/overview.js'
import type { Access } from './access/access.js'
import type { Audit } from './access/audit.js'

/** Parts that the admin server needs. It opens no socket and no store itself. */
export interface AdminDeps {
  readonly config: ConfigControl
  /** Returns the store in use: a restart of the workers may open another. */
  readonly store: () => AdminStore
  /** Asks the processes that serve requests: this one, or all workers. */
  readonly ask: Ask
  /** Returns the consumer, tier and tenant of the next request of a consumer, before its quota is checked. */
  readonly standing: (question: StandingQuestion) => Promise<Standing>
  /** Explains what would happen to a request, without sending it. */
  readonly explain: (question: ExplainQuestion) => Promise<Explained>
  readonly metrics: {
    traffic(): Traffic | Promise<Traffic>
    limitCounts(): readonly LimitCounts[] | Promise<readonly LimitCounts[]>
    scrape(format: TextFormat): Promise<string>
  }
  /** The last hour; undefined in a command, which is not a gateway. */
  readonly history?: Pick<History, 'read'> | undefined
  /** `reasons` say what is missing when not ready, and what is faulty when ready. */
  readonly ready: () => Readiness | Promise<Readiness>
  readonly audit: Audit
  /** Authentication and roles. Without any token, only loopback is served. */
  readonly access: Access
  /** If left out, the server has shares of its own and trusts no proxy. */
  readonly shares?: Shares | undefined
  readonly log: AdminLog
}

/** The part of the store that the admin API reads and changes. */
export interface AdminStore
  extends Pick<Store, 'limiter' | 'assignments' | 'amounts' | 'keys' | 'maps' | 'fleet'> {
  readonly bans: Pick<Bans, 'map'>
  readonly heartbeat?: Pick<Heartbeat, 'members'> | undefined
  readonly shards?: Store['shards']
}

export interface Readiness {
  readonly ready: boolean
  readonly reasons: readonly string[]
}

/** The part of the configuration source that the admin server uses. */
export interface ConfigControl {
  current(): Snapshot
  /** Returns plain data without secrets, shown unchanged. */
  status(): Partial<ConfigStatus> & { readonly workers?: readonly object[] }
  /** Reloads. `messages` are the faults of a rejected file, each as `file:line:column: …`. */
  reload(
    trigger: 'admin',
    who: string,
  ): Promise<{
    readonly result: 'applied' | 'rejected' | 'unchanged'
    readonly messages?: readonly string[]
  }>
}

export type AdminLog = Record<'info' | 'warn' | 'error', (details: object, message: string) => void>
