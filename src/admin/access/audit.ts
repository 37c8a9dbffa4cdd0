import type { AuditStream } from '../../fleet/audit-stream.js'
import { scrub } from '../../telemetry/logs/log.js'
import type { Actor } from './actor.js'

/** One thing that was changed, as its endpoint tells it. No secrets: what stands here is stored and logged. */
export interface Change {
  /** What was done to what: `tier.set`. */
  readonly action: `${string}.${string}`
  /** What it was done to, by the name that operators use: a consumer, `service/consumer`, an upstream. */
  readonly target: string
  /** As it was, and as it is now; null or left out: there is nothing. Data that JSON keeps. */
  readonly before?: unknown
  readonly after?: unknown
}

/** A change with all that is known of it, as it is stored, logged and shown. */
export interface AuditEntry {
  /** ISO 8601, by the clock of the gateway that did it. */
  readonly at: string
  readonly who: string
  readonly action: string
  readonly target: string
  readonly before: unknown
  readonly after: unknown
  readonly reason: string | null
  /** The gateway, or the command, that did it: host and process id. */
  readonly node: string
  /** Where the request came from. */
  readonly address: string
  readonly client: string | null
}

/** Whether an entry is in the store, or in the log alone. */
export type Recorded = 'stored' | 'logged'

/** The part of a Fastify request that is seen from here: `server.ts` puts it there. */
export interface Audited {
  readonly actor: Actor
  /** What has become of the entry; the answer's header tells it. */
  recorded: Recorded | undefined
}

export interface Audit {
  /**
   * Every endpoint that writes calls it once the write is done, and waits for it before it answers. Never rejects:
   * what the store does not take is in the log, and the answer's `x-audit` says so.
   */
  record(request: Audited, change: Change): Promise<void>
  /** Where the entries are. */
  stream(): AuditStream
}

export interface AuditOptions {
  /** Asked each time: a restart of the workers may have opened another store. */
  readonly stream: () => AuditStream
  /** Host and process id. */
  readonly node: string
  readonly log: Record<'info' | 'warn', (details: object, message: string) => void>
  /** Unix ms. */
  readonly now?: () => number
  /** Told the id of each entry that the store has taken. */
  readonly onStored?: (id: string) => void
}

/** About how many entries the store keeps. */
const KEPT_ENTRIES = 10_000
/** Of `before` and `after` as JSON, each: a row of a support desk, not an archive. */
const LONGEST_VALUE = 2000
const LONGEST_TARGET = 1200

export function createAudit({ stream, node, log, now = Date.now, onStored }: AuditOptions): Audit {
  return {
    stream,
    async record(request, { action, target, before, after }) {
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
      // Somebody pastes a key into a reason, sooner or later.
      const text = scrub(JSON.stringify(entry))
      try {
        const id = await stream().append(text, KEPT_ENTRIES)
        request.recorded = 'stored'
        onStored?.(id)
        log.info({ audit: entry }, 'audit')
      } catch (error) {
        request.recorded = 'logged'
        const message = (error as Error).message
        log.warn({ audit: entry, error: message }, 'audit: not in the store, this line is the only record')
      }
    },
  }
}

/** Anybody with access to the store may write anything: what is no entry of ours is none. */
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
