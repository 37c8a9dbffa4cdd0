import type { AuditStream } from '../../fleet/audit-stream.js'
import type { Fleet } from '../../fleet/gateway-rpc.js'
import { entryIn } from './audit.js'

/**
 * A command that writes to the store has no log that anyone keeps. It asks one live gateway to log its audit entries,
 * as if the change had gone through that gateway.
 */

const KIND = 'audited'
/** Most entries in one question, which has at most QUESTION_BYTES. */
const MOST_ENTRIES = 100
const ID = /^\d{1,15}-\d{1,15}$/
/** Timeout in ms. */
const PATIENCE = 500

/**
 * Writes the audit entries that other processes ask for into the log of this gateway. Skips ids that have no entry in
 * the stream.
 */
export function answerAudited(
  fleet: Pick<Fleet, 'answer'>,
  stream: Pick<AuditStream, 'one'>,
  log: Record<'info', (details: object, message: string) => void>,
): void {
  fleet.answer(KIND, async (asked) => {
    if (!Array.isArray(asked) || asked.length > MOST_ENTRIES) return 0
    let lines = 0
    for (const id of asked) {
      const text = typeof id === 'string' && ID.test(id) ? await stream.one(id) : undefined
      const entry = text === undefined ? undefined : entryIn(text)
      if (entry === undefined) continue
      log.info({ audit: entry }, 'audit')
      lines++
    }
    return lines
  })
}

/** Asks for log lines. Resolves when a gateway has logged the entries, or when none does. Never rejects. */
export async function askForLines(fleet: Pick<Fleet, 'ask'>, ids: readonly string[]): Promise<void> {
  for (let i = 0; i < ids.length; i += MOST_ENTRIES)
    await fleet.ask(KIND, ids.slice(i, i + MOST_ENTRIES), { onlyOne: true, timeoutMs: PATIENCE })
}
