import type { Limit } from '../../../src/config/snapshot/limit.js'
import { policyOf as compile, type Policy } from '../../../src/config/snapshot/policy.js'
import type { OnFailure, Service } from '../../../src/config/snapshot/snapshot.js'
import { PLAIN_RESILIENCE, PLAIN_UPSTREAMS } from '../../support/gateway/snapshot.js'

/** Builds a compiled policy: a pair is a sliding limit of amount and window in ms, other limits are given in full. */
export function policyOf(
  ...limits: readonly (readonly [amount: number, windowMs: number] | Partial<Limit>)[]
): Policy {
  return compile(
    limits.map((limit, i) => {
      const given = 'length' in limit ? { amount: limit[0], windowMs: limit[1] } : limit
      const { amount = 1, windowMs = 60_000 } = given
      return {
        name: `${windowMs}ms-${i}`,
        algorithm: 'sliding',
        by: 'consumer',
        amount,
        windowMs,
        burst: amount,
        calendar: undefined,
        share: undefined,
        shareOf: undefined,
        changed: undefined,
        next: undefined,
        ...given,
      }
    }),
    { refunds: false, candidate: undefined },
  )
}

export function serviceOf(
  name: string,
  policies: readonly (Policy | undefined)[],
  onFailure: OnFailure = 'open',
): Service {
  return {
    ...PLAIN_UPSTREAMS,
    ...PLAIN_RESILIENCE,
    index: 0,
    name,
    onFailure,
    policies,
    exempt: undefined,
    showDecidedBy: false,
    maintenance: undefined,
    identity: undefined,
  }
}
