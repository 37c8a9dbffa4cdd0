import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ClientConfig, Pool, PoolClient } from 'pg'
import { withTimeout } from '../common/wait.js'
import type { PostgresSource } from '../config/schema/tier-sources.js'
import { A_MINUTE, type Log, throttledWarning } from '../log-throttle.js'
import { cut, guardClient } from './postgres-guard.js'
import { type Channel, listenTo } from './postgres-listen.js'
import { type Directory, tierAnswerOf } from './tier-answer.js'

export interface PostgresOptions {
  readonly name: string
  readonly settings: Pick<PostgresSource, 'url' | 'query' | 'listen' | 'timeout' | 'pool'>
  /** True to listen for messages, if the settings name a channel. */
  readonly listen: boolean
  /** Called with a consumer whose tier has changed; undefined means that any consumer's may have. */
  readonly onChange: (consumer: string | undefined) => void
  /** Called for each connection that was ended because its server broke the protocol. */
  readonly onBroken?: () => void
  readonly log: Log
}

/** How long an idle connection stays open, in ms. */
const IDLE = 60_000
/** How long `close` waits for connections, in ms. */
const CLOSE_PATIENCE = 1000
/** SQLSTATE of data that the query cannot accept, such as text for a number (PostgreSQL, appendix A). */
const DATA_EXCEPTION = /^22/

/** Opens a PostgreSQL table as a source. The optional dependency `pg` is loaded here, only when it is needed. */
export function openPostgres(options: PostgresOptions): Directory {
  const { name, settings, onChange, onBroken, log } = options
  const warn = throttledWarning(log, A_MINUTE)
  let pool: Pool | undefined
  let channel: Channel | undefined
  let closed = false
  const live = new Set<PoolClient>()

  const opened = open()
  // Each lookup reports the error. Until the first one, nothing awaits this promise.
  opened.catch(() => {})

  async function open(): Promise<Pool> {
    const { default: pg } = await import('pg').catch((error: Error) => {
      throw new Error(`PostgreSQL needs the package pg, which cannot be loaded: ${error.message}`)
    })
    const { parseIntoClientConfig } = await import('pg-connection-string')
    // Done once: with sslrootcert this reads a file, which may be gone when the next connection is made.
    const address: ClientConfig = {
      ...parseIntoClientConfig(settings.url),
      application_name: 'tidegate',
      keepAlive: true,
      // Later than the timeout of the lookup, so that the lookup reports that it took too long.
      connectionTimeoutMillis: settings.timeout + 100,
    }
    class Guarded extends pg.Client {
      constructor(config?: ClientConfig) {
        super(config)
        guardClient(this, (error) => {
          onBroken?.()
          warn({ source: name, error }, 'the database broke the protocol; the connection is ended')
        })
      }
    }
    const made = new pg.Pool({
      ...address,
      Client: Guarded,
      max: settings.pool,
      idleTimeoutMillis: IDLE,
      allowExitOnIdle: true,
    })
    // A lost idle connection is replaced when the next one is needed.
    made.on('error', () => {})
    made.on('connect', (client) => {
      live.add(client)
      // A connection lost in use also fails its query.
      client.on('error', () => {})
    })
    made.on('remove', (client) => live.delete(client))
    if (closed) return made
    pool = made
    if (options.listen && settings.listen !== undefined) {
      channel = listenTo({
        source: name,
        channel: settings.listen,
        connect: () => new Guarded(address),
        // Messages sent while the gateway was not listening are lost.
        onListening: () => onChange(undefined),
        onMessage: (consumer) => onChange(consumer === '' ? undefined : consumer),
        log,
      })
    }
    return made
  }

  return {
    async look(consumer, signal) {
      const client = await (await opened).connect().catch(async (error) => {
        // If the event loop was blocked, the lookup's own timeout has expired in the same turn, and is reported first.
        await nextTurn()
        throw error
      })
      if (signal.aborted) {
        client.release()
        throw signal.reason
      }
      let released = false
      // The only way to get the connection back: the query continues in the server until the server notices, or ends it
      // by itself.
      const abort = () => {
        released = true
        client.release(true)
      }
      signal.addEventListener('abort', abort, { once: true })
      try {
        const { rows, fields } = await client.query<Record<string, unknown>>(settings.query, [consumer])
        const columns = fields.map((field) => field.name)
        if (!columns.includes('tier')) {
          throw new Error(`its query returns no column "tier", but ${columns.join(', ') || 'none'}`)
        }
        return rows[0] && tierAnswerOf(rows[0].tier, rows[0].tenant)
      } catch (error) {
        const { code } = error as { code?: unknown }
        if (typeof code === 'string' && DATA_EXCEPTION.test(code)) return undefined
        throw error
      } finally {
        signal.removeEventListener('abort', abort)
        if (!released) client.release()
      }
    },
    async close() {
      if (closed) return
      closed = true
      channel?.close()
      await withTimeout(pool?.end(), CLOSE_PATIENCE, () => undefined)
      for (const client of live) cut(client)
    },
  }
}
