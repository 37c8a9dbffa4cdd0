import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Resolves once the condition holds; rejects when it does not within the time, which is one that no busy machine takes. For
 * what stays once it is so: what ends by itself may have ended before anybody looks.
 */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await sleep(5)
  }
}
