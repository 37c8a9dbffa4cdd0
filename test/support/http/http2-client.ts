import { once } from 'node:events'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type SecureClientSessionOptions,
} from 'node:http2'
import type { Test } from 'tap'

export interface Http2Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
  readonly trailers: IncomingHttpHeaders | undefined
  /** Code of the RST_STREAM; NO_ERROR unless the stream was reset. */
  readonly code: number
  /** True if the header ended the stream. */
  readonly headerOnly: boolean
}

export interface Http2Client {
  readonly session: ClientHttp2Session
  /** Sends a request and waits for its end. By default a GET without a body. */
  ask(path: string, headers?: OutgoingHttpHeaders, body?: string | Buffer): Promise<Http2Answer>
  /** Begins a request whose body is still to come. */
  begin(path: string, headers?: OutgoingHttpHeaders): ClientHttp2Stream
  isClosed(): boolean
}

export async function http2Client(
  t: Test,
  origin: string,
  options: SecureClientSessionOptions = {},
): Promise<Http2Client> {
  const session = connect(origin, options)
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  await once(session, 'connect')
  const begin = (path: string, headers: OutgoingHttpHeaders = {}, endStream = false) => {
    const stream = session.request({ ':path': path, ':authority': 'api.example', ...headers }, { endStream })
    stream.on('error', () => {})
    return stream
  }
  return {
    session,
    begin,
    async ask(path, headers = {}, body) {
      const stream = begin(
        path,
        { ':method': body === undefined ? 'GET' : 'POST', ...headers },
        body === undefined,
      )
      const answer = answerOn(stream)
      if (body !== undefined) stream.end(body)
      return answer
    },
    isClosed: () => session.closed || session.destroyed,
  }
}

export async function answerOn(stream: ClientHttp2Stream): Promise<Http2Answer> {
  let headers: IncomingHttpHeaders = {}
  let trailers: IncomingHttpHeaders | undefined
  let headerOnly = false
  let body = ''
  stream.on('response', (all, flags) => {
    headers = all
    headerOnly = (flags & 1) !== 0
  })
  stream.on('trailers', (all) => {
    trailers = all
  })
  stream.on('data', (chunk: Buffer) => {
    body += chunk.toString('latin1')
  })
  await new Promise((resolve) => stream.once('close', resolve))
  return {
    status: Number(headers[':status'] ?? 0),
    headers,
    body,
    trailers,
    code: stream.rstCode ?? 0,
    headerOnly,
  }
}
