import type { AuditStream } from '../../fleet/audit-stream.js'
import type { Fleet } from '../../fleet/gateway-rpc.js'
import { entryIn } from './audit.js'

/**
 * A command that writes to the store by itself has no log that anybody keeps. It asks one of the gateways that live to have its
 * entries of the audit in the log, as if it had gone through that one.
 */

const KIND = 'audited'
/** Entries of one question, which has at most QUESTION_BYTES. */
const MOST_ENTRIES = 100
const ID = /^\d{1,15}-\d{1,15}$/
/** Ms. */
const PATIENCE = 500

export interface AuditLines {
  readonly stream: () => Pick<AuditStream, 'one'>
  readonly log: Record<'info', (details: object, message: string) => void>
}

/** Writes the entries that others ask for into the log of this gateway. What is no entry of the stream is no line. */
export function answerAudited(fleet: Pick<Fleet, 'answer'>, { stream, log }: AuditLines): void {
  fleet.answer(KIND, async (asked) => {
    if (!Array.isArray(asked) || asked.length > MOST_ENTRIES) return 0
    let lines = 0
    for (const id of asked) {
      const text = typeof id === 'string' && ID.test(id) ? await stream().one(id) : undefined
      const entry = text === undefined ? undefined : entryIn(text)
      if (entry === undefined) continue
      log.info({ audit: entry }, 'audit')
      lines++
    }
    return lines
  })
}

/** Resolves when a gateway has them in its log, or none does. Never rejects. */
export async function askForLines(fleet: Pick<Fleet, 'ask'>, ids: readonly string[]): Promise<void> {
  for (let i = 0; i < ids.length; i += MOST_ENTRIES)
    await fleet.ask(KIND, ids.slice(i, i + MOST_ENTRIES), { onlyOne: true, timeoutMs: PATIENCE })
}
