import { createHash, randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { askForLines } from '../../admin/access/audit-line.js'
import type { AdminLog } from '../../admin/deps.js'
import { deferred, withTimeout } from '../../common/wait.js'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { createForwardAuth } from '../../credentials/forward-auth.js'
import { createTokens } from '../../credentials/tokens.js'
import { openStore } from '../../fleet/open-store.js'
import { openAdmin } from '../../open-admin.js'
import { createFamilies } from '../../telemetry/metrics/metric-definitions.js'
import { trafficOf } from '../../telemetry/metrics/overview.js'
import { openTierSources } from '../../tier-sources/tier-sources.js'
import { Refused } from '../command.js'
import { currentUser } from '../current-user.js'
import type { AdminAddress } from './ask-admin.js'

/** Longest wait for the first answer of the store, in ms. */
const PATIENCE = 5000
/** Longest wait, in ms, once the store has reported an error: another of its addresses may answer. */
const PATIENCE_AFTER_ERROR = 300
/** An admin API that answers, and what to say when it does not. */
export interface OpenedAdmin {
  readonly address: AdminAddress
  /** Explains what it means that the address does not answer. */
  readonly unreachable: (error: Error) => string
  /** Names where the audit entry is if the store does not have it. */
  readonly onlyLogged: () => string
  /** Explains a 401 if the response does not do so well enough. */
  readonly unauthorized?: string
  readonly close: () => Promise<void>
}

/**
 * Serves the admin API to this process, over the store that the gateways share. It is half of a gateway, so it is imported only
 * where no running gateway answers.
 *
 * @param needsStore false if the command goes on without the store
 * @throws Refused if the store is needed and unreachable
 */
export async function adminOverStore(file: string, snapshot: Snapshot, needsStore = true) {
  let lastError = 'no answer'
  const note = (fields: object) => {
    const { error, err } = fields as { error?: unknown; err?: unknown }
    lastError = err instanceof Error ? err.message : typeof error === 'string' ? error : lastError
  }
  let unstored: unknown
  const stored: string[] = []
  const { promise: refusal, resolve: refused } = deferred()
  const log: AdminLog = {
    info() {},
    warn(fields) {
      note(fields)
      refused()
      if ('audit' in fields) unstored = fields.audit
    },
    error: note,
  }
  const store = openStore(snapshot.config.store, log, { decides: false, fleet: 'asks' })
  const unreachable = () =>
    `the store is out of reach (${lastError}); check store.redis in ${file}, and that Redis runs there`

  const ready = Promise.all([
    store.ready,
    store.assignments.ready,
    store.amounts.map.ready,
    // The other commands wait for the bans when they need them.
    needsStore || store.bans.map.ready,
  ]).then(() => true)
  const late = () => false
  const hasStore = await Promise.race([
    withTimeout(ready, PATIENCE, late),
    refusal.then(() => withTimeout(ready, PATIENCE_AFTER_ERROR, late)),
  ])
  if (needsStore && !hasStore) {
    await store.close()
    throw new Refused(unreachable())
  }
  const tierSources = openTierSources({ settings: snapshot.config.tier_sources, listen: false, log })
  const tokens = createTokens({ log })
  const forwardAuth = createForwardAuth({ log })
  // Reachable on loopback and by this process only.
  const token = randomBytes(32).toString('hex')
  const sha256 = createHash('sha256').update(token).digest('hex')
  const admin = openAdmin({
    config: {
      current: () => snapshot,
      status: () => ({}),
      reload: () => Promise.resolve({ result: 'unchanged' }),
    },
    store: () => store,
    ask: () => Promise.resolve(undefined),
    tierSources,
    tokens,
    forwardAuth,
    metrics: {
      scrape: () => Promise.resolve(''),
      traffic: () => trafficOf(createFamilies()),
      limitCounts: () => [],
    },
    phase: () => ({ ready: true, reasons: [] }),
    accessSettings: { tokens: [{ name: `cli:${currentUser()}`, sha256, role: 'operator' }] },
    onStored: (id) => void stored.push(id),
    log,
  })
  await admin.listen({ host: '127.0.0.1', port: 0 })
  const { port } = admin.server.address() as AddressInfo
  return {
    address: { host: '127.0.0.1', port, token },
    /** False if the store did not answer in time. */
    hasStore,
    tierSources,
    unreachable,
    onlyLogged: () =>
      `the change is made, but the audit of the store does not have it; keep this: ${JSON.stringify(unstored)}`,
    async close() {
      await admin.close()
      tokens.close()
      forwardAuth.close()
      await askForLines(store.fleet, stored)
      await Promise.all([store.close(), tierSources.close()])
    },
  }
}
