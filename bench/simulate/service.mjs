/** The service whose limits are simulated: compiled from the words of a configuration, by the gateway's own code. */
import { loadConfig } from '../../dist/config/load/load.js'
import { compileSnapshot } from '../../dist/config/snapshot/snapshot.js'
import { ALGORITHMS } from '../../dist/limiter/algorithms/by-name.js'
import { keysOf } from '../../dist/limiter/counter-keys.js'
import { slotOfKey } from '../../dist/limiter/key.js'

const NAME = 'orders'
const SLOTS = 16_384

/**
 * Returns the service, and the policy of each tier.
 *
 * @throws Error on limits that a configuration could not have, or that are not by consumer
 */
export function serviceOf({ tiers, onFailure }) {
  const limits = Object.fromEntries(Object.entries(tiers).map(([tier, one]) => [tier, one.limits]))
  const text = JSON.stringify({
    tiers: Object.keys(tiers),
    services: { [NAME]: { upstreams: ['http://127.0.0.1:1'], limits, on_failure: onFailure } },
    routes: [{ path: '/*', service: NAME }],
  })
  const loaded = loadConfig(text, { file: 'the assumptions', env: {} })
  if (!loaded.ok) throw new Error(loaded.errors.map(({ message }) => message).join('\n'))
  const { services, tiers: names } = compileSnapshot(loaded.config, 0)
  const service = services[0]
  const policies = Object.fromEntries(names.map((tier, i) => [tier, service.policies[i]]))
  for (const [tier, policy] of Object.entries(policies)) {
    const algorithms = policy?.limits.map(({ algorithm }) => algorithm) ?? []
    if (policy?.parts.length !== 1 || policy.parts[0].by !== 'consumer' || algorithms.includes('concurrency'))
      throw new Error(`tier ${tier}: a simulation needs limits by consumer, and no concurrency`)
  }
  return { service, policies }
}

export const keyOf = (service, policy, id) => keysOf(service.name, policy.parts, id, undefined)[0]

/** Returns the slot of a key, and the primary that has it. */
export function placeOf(key, primaries) {
  const slot = slotOfKey(key)
  return { slot, primary: Math.floor((slot * primaries) / SLOTS) }
}

/** Returns the bytes of the value under a key of these limits (lua/take.lua). A single sliding limit is an integer. */
export function valueBytes({ limits }) {
  if (limits.length === 1 && limits[0].algorithm === 'sliding') return 0
  return limits.reduce((sum, { algorithm }) => sum + ALGORITHMS[algorithm].stored.bytes, 0)
}
