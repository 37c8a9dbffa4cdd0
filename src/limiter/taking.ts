import type { Decision, Limiter, Taking } from './limiter.js'

/** Makes `take` from `decide`, for a caller that prefers a promise. */
export function promised(decide: Limiter['decide']): Limiter['take'] {
  return (service, policy, consumer, cost, levels, shows = false) => {
    let decided: Taking['decided'] = () => {}
    const later = new Promise<Decision>((resolve) => {
      decided = resolve
    })
    return decide({ service, policy, consumer, cost, levels, shows, decided }) ?? later
  }
}

/** Delivers a decision. An error of the receiver is logged: others of the same batch wait for theirs. */
export function deliver(
  { decided }: Pick<Taking, 'decided'>,
  decision: Decision,
  warn: (fields: object, message: string) => void,
): void {
  try {
    decided(decision)
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    warn({ error: text }, 'a request failed on the decision of the limiter')
  }
}
