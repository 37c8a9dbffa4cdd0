import type { Client } from 'pg'
import { A_MINUTE, type Log, throttledWarning } from '../log-throttle.js'
import { cut } from './postgres-guard.js'

/** Separate connection that listens on a channel for as long as it is open. */
export interface Channel {
  close(): void
}

export interface ListenOptions {
  /** Name of the source, for the log. */
  readonly source: string
  /** PostgreSQL identifier. The configuration has checked it. */
  readonly channel: string
  /** Creates a client that has not connected yet. May throw. */
  readonly connect: () => Client
  /** Called each time that the server confirms the subscription. Messages sent before that are lost. */
  readonly onListening: () => void
  readonly onMessage: (payload: string) => void
  readonly log: Log
  readonly random?: () => number
}

/** Pause between two attempts, in ms. It doubles each time up to the longest. */
const FIRST_PAUSE = 500
const LONGEST_PAUSE = 30_000
/**
 * Interval between two heartbeats, and how long one may take, in ms. TCP alone reports a hanging connection after
 * hours.
 */
const HEARTBEAT = 30_000
const PATIENCE = 5_000

export function listenTo(options: ListenOptions): Channel {
  const { source, channel, connect, onListening, onMessage, log, random = Math.random } = options
  const warn = throttledWarning(log, A_MINUTE)
  let closed = false
  let pause = FIRST_PAUSE
  let timer: NodeJS.Timeout | undefined
  let current: Client | undefined

  function again(client: Client | undefined, why: string): void {
    if (closed || client !== current) return
    current = undefined
    destroy(client)
    warn(
      { source, channel, error: why },
      'the gateway misses messages about changed tiers; until it listens again, ttl decides',
    )
    clearTimeout(timer)
    timer = setTimeout(begin, pause * (0.8 + 0.4 * random())).unref()
    pause = Math.min(2 * pause, LONGEST_PAUSE)
  }

  function begin(): void {
    let client: Client | undefined
    try {
      client = connect()
    } catch (error) {
      again(current, (error as Error).message)
      return
    }
    const own = client
    current = own
    own.on('error', (error) => again(own, error.message))
    own.on('end', () => again(own, 'the connection has ended'))
    own.on('notification', (message) => {
      if (message.channel === channel) onMessage(message.payload ?? '')
    })
    own
      .connect()
      .then(() => own.query(`LISTEN "${channel}"`))
      .then(() => {
        if (closed || own !== current) return
        pause = FIRST_PAUSE
        onListening()
        timer = setTimeout(beat, HEARTBEAT, own).unref()
      })
      .catch((error: Error) => again(own, error.message))
  }

  function beat(client: Client): void {
    const late = setTimeout(() => again(client, `no sign of life within ${PATIENCE} ms`), PATIENCE).unref()
    client
      .query('SELECT 1')
      .then(() => {
        if (closed || client !== current) return
        timer = setTimeout(beat, HEARTBEAT, client).unref()
      })
      .catch((error: Error) => again(client, error.message))
      .finally(() => clearTimeout(late))
  }

  begin()

  return {
    close() {
      closed = true
      clearTimeout(timer)
      destroy(current)
    },
  }
}

/** Closes the connection at once: a server that hangs would not answer a goodbye. */
function destroy(client: Client | undefined): void {
  if (client === undefined) return
  client.removeAllListeners()
  client.on('error', () => {})
  cut(client)
}
