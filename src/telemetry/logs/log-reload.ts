import type { ReloadEvent } from '../../config/load/reload.js'

/** Logs at the start what `tidegate check` would warn about. For later configurations, the reload logs the warnings. */
export function logWarnings(
  log: Record<'warn', (fields: object, message: string) => void>,
  messages: readonly string[],
): void {
  if (messages.length > 0) log.warn({ messages }, 'configuration loaded, with warnings')
}

/**
 * Logs a reload.
 *
 * @param changed differences from the configuration before, one line each
 */
export function logReload(
  log: Record<'debug' | 'info' | 'error', (fields: object, message: string) => void>,
  { result, repaired = false, trigger, snapshot, messages, durationMs }: ReloadEvent,
  changed: readonly string[],
): void {
  const fields = { trigger, hash: snapshot.hash, load_ms: Math.round(durationMs), messages }
  if (result === 'rejected') log.error(fields, 'configuration rejected; the last good one stays in force')
  else if (result === 'applied') log.info({ ...fields, changed }, 'configuration applied')
  else if (repaired) log.info(fields, 'configuration valid again, and the same as before it was rejected')
  else log.debug(fields, 'configuration unchanged')
}
