import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** Outcomes of the requests of a load. */
export interface Outcome {
  /** How often each status came. */
  readonly statuses: Record<number, number>
  /** Errors of the requests that got no whole response. */
  readonly failures: readonly string[]
  readonly total: number
}

export interface Load {
  done(): number
  /** Sends no more, and resolves once the last response has come. */
  stop(): Promise<Outcome>
}

export interface LoadOptions {
  /** Number of clients that keep their connection, and of clients that open one for each request. */
  readonly keepAlive: number
  readonly fresh: number
  /** Pause of a client between a response and its next request, in ms; 0 by default. */
  readonly pauseMs?: number
  readonly headers?: Record<string, string>
}

/**
 * Starts clients that send one request after the other. They use node:http, which never retries, so every failure that the server causes is
 * counted.
 */
export function startLoad(url: string, { keepAlive, fresh, pauseMs = 0, headers = {} }: LoadOptions): Load {
  const statuses: Record<number, number> = {}
  const failures: string[] = []
  let total = 0
  let stopping = false

  async function client(agent: HttpAgent | false): Promise<void> {
    while (!stopping) {
      try {
        const status = await ask(url, agent, headers)
        statuses[status] = (statuses[status] ?? 0) + 1
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        failures.push(code ?? message)
      }
      total++
      if (pauseMs > 0) await sleep(pauseMs)
    }
    if (agent !== false) agent.destroy()
  }

  const clients = Promise.all([
    ...Array.from({ length: keepAlive }, () => client(new HttpAgent({ keepAlive: true, maxSockets: 1 }))),
    ...Array.from({ length: fresh }, () => client(false)),
  ])
  return {
    done: () => total,
    async stop() {
      stopping = true
      await clients
      return { statuses, failures, total }
    },
  }
}

function ask(url: string, agent: HttpAgent | false, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const call = httpRequest(url, { agent, headers, timeout: 20_000 })
    call.on('timeout', () => call.destroy(new Error('silent for 20 s')))
    call.on('error', reject)
    call.on('response', (response) => {
      response.resume()
      response.on('error', reject)
      response.on('end', () => resolve(response.statusCode!))
    })
    call.end()
  })
}
