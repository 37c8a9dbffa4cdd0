import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ClientConfig, Pool, PoolClient } from 'pg'
import type { PostgresSource } from '../config/schema/tier-sources.js'
import { guardClient } from './postgres-guard.js'
import { type Channel, listenTo } from './postgres-listen.js'
import { onceAMinute, type ReachLog } from './source-health.js'
import { type Directory, planOf } from './tier-answer.js'

export interface PostgresOptions {
  readonly name: string
  readonly settings: Pick<PostgresSource, 'url' | 'query' | 'listen' | 'timeout' | 'pool'>
  /** Whether messages are listened to, where the settings name a channel. */
  readonly listen: boolean
  /** Undefined: any consumer may have changed. */
  readonly onChange: (consumer: string | undefined) => void
  /** Called for each connection that was ended because its server broke the protocol. */
  readonly onBroken?: () => void
  readonly log: ReachLog
}

/** Ms that a connection is kept without a question. */
const IDLE = 60_000
/** Ms. */
const CLOSE_PATIENCE = 1000
/** SQLSTATE of data that the query cannot take, such as text for a number (PostgreSQL, appendix A). */
const DATA_EXCEPTION = /^22/

/** A table of PostgreSQL. The package `pg` is loaded here, where it is asked for; it is an optional dependency. */
export function openPostgres(options: PostgresOptions): Directory {
  const { name, settings, onChange, onBroken, log } = options
  const warn = onceAMinute((fields, message) => log.warn(fields, message))
  let pool: Pool | undefined
  let channel: Channel | undefined
  let closed = false
  const live = new Set<PoolClient>()

  const opened = open()
  // Whoever asks is told; until then nobody waits for it.
  opened.catch(() => {})

  async function open(): Promise<Pool> {
    const { default: pg } = await import('pg').catch((error: Error) => {
      throw new Error(`the package pg is needed for PostgreSQL, and cannot be loaded: ${error.message}`)
    })
    const { parseIntoClientConfig } = await import('pg-connection-string')
    // Once: with sslrootcert it reads a file, which need not be there any more when the next connection is made.
    const address: ClientConfig = {
      ...parseIntoClientConfig(settings.url),
      application_name: 'tidegate',
      keepAlive: true,
      // After whoever asked has been told that it took too long.
      connectionTimeoutMillis: settings.timeout + 100,
    }
    class Guarded extends pg.Client {
      constructor(config?: ClientConfig) {
        super(config)
        guardClient(this, (error) => {
          onBroken?.()
          warn(
            performance.now(),
            { source: name, error },
            'the database broke the protocol; the connection is ended',
          )
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
    // An idle connection that is lost is replaced when the next one is needed.
    made.on('error', () => {})
    made.on('connect', (client) => {
      live.add(client)
      // One that is lost while it is in use fails its query, too.
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
        // What was said while nobody listened is not known.
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
        // Where the event loop stood still the question's own timeout has passed in the same turn, and is told first.
        await nextTurn()
        throw error
      })
      if (signal.aborted) {
        client.release()
        throw signal.reason
      }
      let released = false
      // The only way to have it back: the query goes on in the server until that notices, or ends it by itself.
      const abort = () => {
        released = true
        client.release(true)
      }
      signal.addEventListener('abort', abort, { once: true })
      try {
        const { rows, fields } = await client.query<Record<string, unknown>>(settings.query, [consumer])
        const columns = fields.map((field) => field.name)
        if (!columns.includes('tier')) {
          throw new Error(`its query gives no column "tier", but ${columns.join(', ') || 'none'}`)
        }
        return rows[0] && planOf(rows[0].tier, rows[0].tenant)
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
      let timer: NodeJS.Timeout | undefined
      const late = new Promise((resolve) => {
        timer = setTimeout(resolve, CLOSE_PATIENCE)
      })
      await Promise.race([pool?.end(), late])
      clearTimeout(timer)
      for (const client of live) cut(client)
    },
  }
}

/** A server that does not answer does not say goodbye either. */
function cut(client: PoolClient): void {
  const { connection } = client as unknown as { connection?: { stream?: { destroy(): void } } }
  connection?.stream?.destroy()
}
