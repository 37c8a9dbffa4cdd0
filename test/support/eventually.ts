import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Resolves once the condition holds; rejects if it does not within a time that no busy machine takes. Use it for states that stay: one that
 * ends by itself may have ended before anybody looks.
 */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await sleep(5)
  }
}
