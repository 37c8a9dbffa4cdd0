import { createTokens } from '../../../src/credentials/tokens.js'
import { BANS, createBans } from '../../../src/fleet/bans.js'
import { createKeyStore } from '../../../src/fleet/keyring.js'
import { createMemoryLastUsed } from '../../../src/fleet/last-used.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import { createExplain, type ExplainDeps } from '../../../src/gateway/simulate/explain.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { memoryAmounts, memoryAssignments } from './gateway.js'

type Given = Partial<Omit<ExplainDeps, 'store' | 'snapshot'>> & Partial<ReturnType<ExplainDeps['store']>>

/** Explains over a store in memory where nothing was used, as if no gateway ran, but for what a test gives. */
export function explainOver(snapshot: ExplainDeps['snapshot'], given: Given = {}) {
  const tokens = createTokens({ log: { info() {}, warn() {} } })
  const store = {
    limiter: createMemoryLimiter(),
    assignments: memoryAssignments(),
    amounts: memoryAmounts(),
    bans: createBans({ map: createMemoryMap(BANS) }),
    keys: createKeyStore(createMemoryMap, createMemoryLastUsed(100)),
    ...given,
  }
  const none = async () => undefined
  return createExplain({ snapshot, store: () => store, tokens, guards: none, upstreams: none, ...given })
}
