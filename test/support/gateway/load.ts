import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** What became of the requests of a load. */
export interface Outcome {
  /** How often each status came. */
  readonly statuses: Record<number, number>
  /** What went wrong with those that got no whole answer. */
  readonly failures: readonly string[]
  readonly total: number
}

export interface Load {
  done(): number
  /** Asks no more, and resolves once the last answer has come. */
  stop(): Promise<Outcome>
}

export interface LoadOptions {
  /** Clients that keep their connection, and that open one for each request. */
  readonly keepAlive: number
  readonly fresh: number
  /** Ms between an answer and the next request of a client; 0. */
  readonly pauseMs?: number
  readonly headers?: Record<string, string>
}

/**
 * Clients that ask one request after the other. By node:http, which sends nothing a second time: what
 * the server does to a request is what is counted.
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
