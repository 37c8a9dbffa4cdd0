import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'

/**
 * Stream of the changes that operators made: one text each, in the store's order. Only the newest are kept. The admin
 * API writes the texts.
 */
export interface AuditStream {
  /**
   * Appends a text. Resolves with its id. Rejects when the store is unreachable or does not answer within a second.
   *
   * @param keep how many texts the stream holds at most, approximately, including this one
   */
  append(text: string, keep: number): Promise<string>
  /** Reads texts, newest first. Rejects as `append` does. */
  read(range: AuditRange): Promise<readonly AuditLine[]>
  /** Reads the text with this id. Rejects as `append` does, and when the id is malformed. */
  one(id: string): Promise<string | undefined>
}

export interface AuditRange {
  /** Earliest time, in unix ms of the store's clock. Older texts are left out. */
  readonly since: number
  /** Id of a line. Only older lines are returned. */
  readonly before?: string | undefined
  /** Maximum number of lines. */
  readonly count: number
}

export interface AuditLine {
  /** Id of the form `<unix ms>-<number>`. Later lines have greater ids. */
  readonly id: string
  readonly text: string
}

const KEY = 'audit:{log}'
const FIELD = 'entry'
const TIMEOUT = 1000

/** Keeps the stream in the memory of one process. It is lost when the process ends. */
export function createMemoryAuditStream(now: () => number = Date.now): AuditStream {
  const lines: AuditLine[] = []
  let last = 0
  let number = 0
  return {
    async append(text, keep) {
      const at = Math.max(last, Math.floor(now()))
      number = at === last ? number + 1 : 0
      last = at
      const id = `${at}-${number}`
      lines.push({ id, text })
      if (lines.length > keep) lines.splice(0, lines.length - keep)
      return id
    },
    async read({ since, before, count }) {
      const found: AuditLine[] = []
      for (let i = lines.length - 1; i >= 0 && found.length < count; i--) {
        const line = lines[i]!
        if (timeOf(line.id) < since) break
        if (before === undefined || isOlder(line.id, before)) found.push(line)
      }
      return found
    },
    one: async (id) => lines.find((line) => line.id === id)?.text,
  }
}

/**
 * Opens the stream that all gateways on the store share.
 *
 * @param store from `connectStore`. The caller disconnects it.
 */
export function createRedisAuditStream(store: Client): AuditStream {
  return {
    async append(text, keep) {
      // `~` lets Redis drop whole nodes of the stream only. It holds up to a hundred more texts, and an addition costs
      // nothing.
      const id = await askStore(TIMEOUT, store.xadd(KEY, 'MAXLEN', '~', keep, '*', FIELD, text))
      return id!
    },
    async read({ since, before, count }) {
      const end = before === undefined ? '+' : `(${before}`
      const found = await askStore(
        TIMEOUT,
        store.xrevrange(KEY, end, Math.max(0, Math.floor(since)), 'COUNT', count),
      )
      return found.map(([id, fields]) => ({ id, text: textIn(fields) }))
    },
    async one(id) {
      const [found] = await askStore(TIMEOUT, store.xrevrange(KEY, id, id, 'COUNT', 1))
      return found && textIn(found[1])
    },
  }
}

function textIn(fields: readonly string[]): string {
  return fields[fields.indexOf(FIELD) + 1] ?? ''
}

function timeOf(id: string): number {
  return Number.parseInt(id, 10)
}

function isOlder(id: string, than: string): boolean {
  const [at = 0, number = 0] = id.split('-').map(Number)
  const [thanAt = 0, thanNumber = 0] = than.split('-').map(Number)
  return at < thanAt || (at === thanAt && number < thanNumber)
}
