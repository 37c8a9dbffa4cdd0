import type { Decision, Limiter } from '../../../src/limiter/limiter.js'
import { deliver } from '../../../src/limiter/taking.js'

/** Makes `decide` from a `take` that a test brings. What rejects there throws where the decision is used. */
export function decidingBy(take: Limiter['take']): Limiter['decide'] {
  return (taking) => {
    const { service, policy, consumer, cost, levels } = taking
    const decision = take(service, policy, consumer, cost, levels)
    if (!(decision instanceof Promise)) return decision
    decision.then(
      (late) => deliver(taking, late, () => {}),
      (error) => deliver(taking, unusable(error), () => {}),
    )
    return undefined
  }
}

function unusable(error: unknown): Decision {
  return new Proxy({} as Decision, {
    get() {
      throw error
    },
  })
}
