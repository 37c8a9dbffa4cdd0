import type { Client } from '../limiter/redis/scripts.js'
import { askStore } from '../limiter/redis/store-timeout.js'

/** What operators have changed, one text each, in the order of the store; the newest are kept. The texts are the admin API's. */
export interface AuditStream {
  /**
   * Resolves with its id. Rejects when the store is out of reach, or has not answered within a second.
   *
   * @param keep about how many there are at most, this one included
   */
  append(text: string, keep: number): Promise<string>
  /** Newest first. Rejects as above. */
  read(range: AuditRange): Promise<readonly AuditLine[]>
  /** The text of one of them. Rejects as above, and when the id is none. */
  one(id: string): Promise<string | undefined>
}

export interface AuditRange {
  /** Unix ms, by the clock of the store; what is older is left out. */
  readonly since: number
  /** The id of a line: only what is older than it. */
  readonly before?: string | undefined
  /** Lines at most. */
  readonly count: number
}

export interface AuditLine {
  /** `<unix ms>-<number>`, growing. */
  readonly id: string
  readonly text: string
}

const KEY = 'audit:{log}'
const FIELD = 'entry'
const TIMEOUT = 1000

/** Of one process, gone with it. */
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

/** A stream of all gateways of the store. @param store from `connectStore`; stays the caller's to disconnect */
export function createRedisAuditStream(store: Client): AuditStream {
  return {
    async append(text, keep) {
      // `~`: whole nodes of the stream are dropped, so it holds up to a hundred more and an addition costs nothing.
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
