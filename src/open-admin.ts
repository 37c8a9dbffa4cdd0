import type { FastifyInstance } from 'fastify'
import { type AccessSettings, createAccess } from './admin/access/access.js'
import { createAudit } from './admin/access/audit.js'
import { answerAudited } from './admin/access/audit-line.js'
import type { AdminDeps, Readiness } from './admin/deps.js'
import { GUARDS } from './admin/guard-question.js'
import { FAULTS } from './admin/routes/probes.js'
import { createAdmin, QUESTIONS } from './admin/server.js'
import { UPSTREAMS } from './admin/upstream-questions.js'
import type { Store } from './fleet/open-store.js'
import { type Ask, answerGateways } from './fleet/question.js'
import { createExplain, type ExplainDeps } from './gateway/simulate/explain.js'
import { createStanding } from './gateway/simulate/standing.js'
import { createSeenOfAll } from './telemetry/decisions/all-gateways-seen.js'
import { answerHistory } from './telemetry/history/all-gateways-history.js'
import type { History } from './telemetry/history/history.js'

/** Parts of the process that serves the admin API. */
export interface AdminParts
  extends Pick<AdminDeps, 'config' | 'ask' | 'metrics' | 'history' | 'shares' | 'log'>,
    Pick<ExplainDeps, 'tierSources' | 'tokens' | 'forwardAuth' | 'nonces'> {
  /** Returns the store in use: a restart of the workers may open another. */
  readonly store: () => Store
  /** Returns whether this process is ready, without the faults of the store and of the processes that serve requests. */
  readonly phase: () => Readiness
  /** Default: those of the configuration. */
  readonly accessSettings?: AccessSettings
  /** Called with the id of each audit entry that the store has accepted. */
  readonly onStored?: (id: string) => void
}

/**
 * Creates the admin server, not listening yet. It is the same in a gateway of one process, in the primary of several
 * workers, and in a command that works on the store.
 */
export function openAdmin(parts: AdminParts): FastifyInstance {
  const { config, store, ask, phase, accessSettings, onStored, log } = parts
  const snapshot = config.current
  return createAdmin({
    ...parts,
    standing: createStanding({ ...parts, snapshot, seen: createSeenOfAll(() => store().fleet, ask) }),
    explain: createExplain({
      ...parts,
      snapshot,
      guards: () => ask(GUARDS, null),
      upstreams: () => ask(UPSTREAMS, null),
    }),
    async ready() {
      const { ready, reasons } = phase()
      const faults = (await ask(FAULTS, null)) ?? []
      return { ready, reasons: [...new Set([...reasons, ...store().faults(), ...faults])] }
    },
    audit: createAudit({ stream: () => store().audit, node: store().fleet.node, log, onStored }),
    access: createAccess({ settings: () => accessSettings ?? snapshot().config.admin, log }),
  })
}

/** Answers the other gateways on a store, for this gateway. */
export function joinFleet(
  { fleet, audit }: Store,
  ask: Ask,
  history: History | undefined,
  log: AdminDeps['log'],
): void {
  answerGateways(fleet, QUESTIONS, ask)
  if (history !== undefined) answerHistory(fleet, history)
  answerAudited(fleet, audit, log)
}
