import { once } from 'node:events'
import {
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type SecureServerOptions,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/** A request as an HTTP/2 stream. */
export interface ReceivedStream {
  readonly stream: ServerHttp2Stream
  readonly headers: IncomingHttpHeaders
  /** Flat list of names and values, pseudo-header fields among them. */
  readonly raw: readonly string[]
  body: string
  /** True once the body is complete. */
  complete: boolean
  /** Returns all values of a field by its lower-case name. */
  values(name: string): string[]
}

export interface Http2Upstream {
  readonly origin: string
  readonly authority: string
  readonly server: Http2Server | Http2SecureServer
  readonly received: ReceivedStream[]
  readonly sessions: ServerHttp2Session[]
}

/** Starts a real HTTP/2 server that remembers its requests: cleartext, or over TLS when it is given a certificate. */
export async function http2Upstream(
  t: Test,
  handler: (received: ReceivedStream) => void = ({ stream }) =>
    void stream.on('end', () => {
      stream.respond({ ':status': 200 })
      stream.end('ok')
    }),
  options: SecureServerOptions = {},
): Promise<Http2Upstream> {
  const received: ReceivedStream[] = []
  const sessions: ServerHttp2Session[] = []
  const server = options.cert === undefined ? createServer(options) : createSecureServer(options)
  server.on('session', (session) => {
    sessions.push(session)
    session.on('error', () => {})
  })
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _: number, raw: unknown) => {
    const fields = raw as string[]
    const one: ReceivedStream = {
      stream,
      headers,
      raw: fields,
      body: '',
      complete: false,
      values: (name) => fields.filter((_, i) => i % 2 === 1 && fields[i - 1] === name),
    }
    received.push(one)
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => {
      one.body += chunk.toString('latin1')
    })
    stream.on('end', () => {
      one.complete = true
    })
    handler(one)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  const authority = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const scheme = options.cert === undefined ? 'http' : 'https'
  return { origin: `${scheme}://${authority}`, authority, server, received, sessions }
}
