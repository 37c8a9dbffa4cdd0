import type { AuditStream } from '../../fleet/audit-stream.js'
import { scrub } from '../../telemetry/logs/log.js'
import type { Actor } from './actor.js'

/** One change, as its endpoint reports it. Must hold no secrets: it is stored and logged. */
export interface Change {
  /** Object and verb: `tier.set`. */
  readonly action: `${string}.${string}`
  /** Name of the changed object, as operators use it: a consumer, `service/consumer`, an upstream. */
  readonly target: string
  /** Value before and after the change, as JSON data; null or left out: there is none. */
  readonly before?: unknown
  readonly after?: unknown
}

/** A change with everything known about it, as it is stored, logged and shown. */
export interface AuditEntry {
  /** ISO 8601, by the clock of the gateway that made the change. */
  readonly at: string
  readonly who: string
  readonly action: string
  readonly target: string
  readonly before: unknown
  readonly after: unknown
  readonly reason: string | null
  /** Gateway or command that made the change: host and process id. */
  readonly node: string
  /** Client address of the request. */
  readonly address: string
  readonly client: string | null
}

/** Says whether an entry is in the store or only in the log. */
export type Recorded = 'stored' | 'logged'

/** The part of a Fastify request that auditing uses; `server.ts` sets it. */
export interface Audited {
  readonly actor: Actor
  /** Outcome for the entry; a response header reports it. */
  recorded: Recorded | undefined
  /** Id of the stored entry, for `GET /audit/{id}`. */
  auditId?: string | undefined
}

export type Audit = ReturnType<typeof createAudit>

export interface AuditOptions {
  /** Called each time: a restart of the workers may have opened another store. */
  readonly stream: () => AuditStream
  /** Host and process id. */
  readonly node: string
  readonly log: Record<'info' | 'warn', (details: object, message: string) => void>
  /** Returns the current time in Unix ms. */
  readonly now?: () => number
  /** Called with the id of each entry that the store has accepted. */
  readonly onStored?: ((id: string) => void) | undefined
}

/** Approximate number of entries that the store keeps. */
const KEPT_ENTRIES = 10_000
/** Most characters of `before` and of `after` as JSON: this is a log, not an archive. */
const LONGEST_VALUE = 2000
const LONGEST_TARGET = 1200

export function createAudit({ stream, node, log, now = Date.now, onStored }: AuditOptions) {
  return {
    /** Returns the stream that stores the entries. */
    stream,
    /**
     * Records a change. Every endpoint that writes calls this after the write, and awaits it before it responds. Never
     * rejects: an entry that the store does not accept is still in the log, and the header `x-audit` of the response
     * says so.
     */
    async record(request: Audited, { action, target, before, after }: Change): Promise<void> {
      const { who, address, client, reason } = request.actor
      const entry: AuditEntry = {
        at: new Date(now()).toISOString(),
        who,
        action,
        target: target.slice(0, LONGEST_TARGET),
        before: bounded(before),
        after: bounded(after),
        reason: reason ?? null,
        node,
        address,
        client: client ?? null,
      }
      // Sooner or later an operator pastes a key into a reason.
      const text = scrub(JSON.stringify(entry))
      try {
        const id = await stream().append(text, KEPT_ENTRIES)
        request.recorded = 'stored'
        request.auditId = id
        onStored?.(id)
        log.info({ audit: entry }, 'audit')
      } catch (error) {
        request.recorded = 'logged'
        const message = (error as Error).message
        log.warn(
          { audit: entry, error: message },
          'audit: the store has no entry for this change; this line is the only record',
        )
      }
    },
  }
}

/**
 * Parses a stored entry; returns undefined for other text. Anyone with access to the store can write anything there.
 */
export function entryIn(text: string): AuditEntry | undefined {
  try {
    const entry = JSON.parse(text) as AuditEntry
    const texts = [entry.at, entry.who, entry.action, entry.target, entry.node, entry.address]
    return texts.every((one) => typeof one === 'string') ? entry : undefined
  } catch {
    return undefined
  }
}

function bounded(value: unknown): unknown {
  const text = JSON.stringify(value ?? null)
  return text.length <= LONGEST_VALUE ? (value ?? null) : `${text.slice(0, LONGEST_VALUE)}…`
}
