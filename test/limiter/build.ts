import type { OnFailure, Policy, Service } from '../../src/config/snapshot.js'

/** A policy as compiled: `limits` are pairs of amount and window in ms. */
export function policyOf(...limits: readonly (readonly [amount: number, windowMs: number])[]): Policy {
  return {
    limits: limits.map(([amount, windowMs]) => ({
      name: `${windowMs}ms`,
      amount,
      windowMs,
      algorithm: 'sliding',
    })),
    keyPart: limits.map(([, windowMs]) => `${windowMs}ms`).join('+'),
    header: '',
  }
}

export function serviceOf(
  name: string,
  policies: readonly (Policy | undefined)[],
  onFailure: OnFailure = 'open',
): Service {
  return { index: 0, name, upstreams: [], onFailure, policies }
}
