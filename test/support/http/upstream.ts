import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/** A request as it arrived at an upstream. */
export interface Received {
  readonly method: string
  /** The request target as it came. */
  readonly url: string
  readonly rawHeaders: readonly string[]
  /** Body, one character a byte; grows while it comes in. */
  body: string
  /** True once the body is complete. */
  complete: boolean
  /** Returns all values of a field by its lower-case name. */
  values(name: string): string[]
}

export interface RecordingUpstream {
  readonly origin: string
  /** `host:port` */
  readonly authority: string
  readonly received: Received[]
  /** Returns how many connections it has accepted. */
  connections(): number
}

/**
 * Starts a real server on a free port that remembers its requests. It answers once the body is complete: 200 and `ok`, unless the test
 * gives a handler.
 */
export async function recordingUpstream(
  t: Test,
  handler: (req: IncomingMessage, res: ServerResponse, received: Received) => void = (req, res) =>
    void req.on('end', () => res.end('ok')),
): Promise<RecordingUpstream> {
  const received: Received[] = []
  let connections = 0
  const server = createServer((req, res) => {
    const one: Received = {
      method: req.method!,
      url: req.url!,
      rawHeaders: req.rawHeaders,
      body: '',
      complete: false,
      values: (name) =>
        req.rawHeaders.filter((_, i) => i % 2 === 1 && lower(req.rawHeaders[i - 1]!) === name),
    }
    received.push(one)
    req.on('data', (chunk: Buffer) => {
      one.body += chunk.toString('latin1')
    })
    req.on('end', () => {
      one.complete = true
    })
    req.on('error', () => {})
    handler(req, res, one)
  })
  server.on('connection', () => connections++)
  // Without a listener, Node would send 100 Continue itself.
  server.on('checkContinue', (req, res) => server.emit('request', req, res))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const authority = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return { origin: `http://${authority}`, authority, received, connections: () => connections }
}

function lower(name: string): string {
  return name.toLowerCase()
}
