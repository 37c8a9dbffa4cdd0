import { type IncomingHttpHeaders, request } from 'node:http'
import { type RequestOptions, request as requestTls } from 'node:https'
import { join } from 'node:path'
import type { Test } from 'tap'
import { ROOT } from '../pages.js'
import { type GatewayProcess, startProcessOn } from './process.js'

/** Starts a file of examples/ as it is, on free ports. `env` says where its servers are. */
export function startExample(
  t: Test,
  file: string,
  env: Readonly<Record<string, string>>,
): Promise<GatewayProcess> {
  const ports = { TIDEGATE_LISTEN: '127.0.0.1:0', TIDEGATE_ADMIN: '127.0.0.1:0' }
  return startProcessOn(t, join(ROOT, 'examples', file), { ...ports, ...env })
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** Sends a request without a body on a connection of its own. */
export function ask(url: string, headers: Record<string, string> = {}, options: RequestOptions = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const send = url.startsWith('https:') ? requestTls : request
    const sent = send(url, { agent: false, headers, ...options }, async (response) => {
      let body = ''
      for await (const piece of response.setEncoding('utf8')) body += piece
      resolve({ status: response.statusCode!, headers: response.headers, body })
    })
    sent.on('error', reject)
    sent.end()
  })
}

/** Sends requests one after the other, and returns their statuses. */
export async function statusesOf(count: number, url: string, headers: Record<string, string> = {}) {
  const statuses: number[] = []
  for (let i = 0; i < count; i++) statuses.push((await ask(url, headers)).status)
  return statuses
}
