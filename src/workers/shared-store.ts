import { answerAudited } from '../admin/access/audit-line.js'
import type { Config } from '../config/schema/schema.js'
import { API_KEYS } from '../fleet/api-keys.js'
import { ASSIGNMENTS, createAssignments } from '../fleet/assignments.js'
import { BANS, createBans } from '../fleet/bans.js'
import { createKeyStore } from '../fleet/keyring.js'
import { createMemoryLastUsed } from '../fleet/last-used.js'
import { openStore } from '../fleet/open-store.js'
import { AMOUNTS, createAmounts } from '../fleet/overrides.js'
import { answerDecisions } from '../telemetry/decisions/all-gateways-decisions.js'
import { answerSeen } from '../telemetry/decisions/all-gateways-seen.js'
import { answerTop } from '../telemetry/top/all-gateways-top.js'
import { createToldMaps } from './shared-maps.js'

interface SharedStoreOptions {
  readonly log: Parameters<typeof openStore>[1]
  /**
   * Sends a change of a map to all workers; resolves when they have it, or are too late. Null: the value is deleted.
   */
  readonly tell: Parameters<typeof createToldMaps>[0]
  /** Data of the workers for other gateways that ask. */
  readonly top: Parameters<typeof answerTop>[1]
  readonly decisions: Parameters<typeof answerDecisions>[1]
  readonly seen: Parameters<typeof answerSeen>[1]
}

/**
 * Opens the store of this process: without Redis, the one for all workers. With Redis, every worker has its own
 * connection.
 */
export function openSharedStore(
  settings: Config['store'],
  { log, tell, top, decisions, seen }: SharedStoreOptions,
) {
  const opened = openStore(settings, log, { decides: false, fleet: 'member' })
  answerTop(opened.fleet, top)
  answerDecisions(opened.fleet, decisions)
  answerSeen(opened.fleet, seen)
  answerAudited(opened.fleet, { stream: () => opened.audit, log })
  if (settings.redis !== undefined) {
    const banned = createBans({ map: opened.bans })
    const close = () => {
      banned.close()
      return opened.close()
    }
    return { ...opened, settings, told: undefined, banned, close }
  }
  const told = createToldMaps(tell)
  const bans = told.open(BANS)
  const banned = createBans({ map: bans })
  return {
    ...opened,
    settings,
    told,
    assignments: createAssignments(told.open(ASSIGNMENTS)),
    amounts: createAmounts(told.open(AMOUNTS)),
    keys: createKeyStore(told.open, createMemoryLastUsed(API_KEYS.most)),
    bans,
    banned,
    map: told.open,
    close: async () => {
      banned.close()
      await Promise.all([opened.close(), told.close()])
    },
  }
}
