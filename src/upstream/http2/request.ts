import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { Readable } from 'node:stream'
import {
  type BodySink,
  type BodySource,
  coded,
  type ResponseHandler,
  type SenderRequest,
  type Sent,
} from '../sender.js'
import { SINGLE_VALUE_FIELDS } from './fields.js'

/** Most bytes of a body that are kept, to resend it when the upstream has not processed the request. */
const MAX_KEPT = 65_536

/** How an attempt ended. `unprocessed`: the upstream has said that it did nothing with the request. */
export type StreamOutcome = 'done' | 'failed' | 'cancelled' | 'unprocessed'

/**
 * One request as a stream of a connection. Ends by `onComplete` or `onError`, except for an attempt that the upstream
 * has not processed: that may be repeated on another connection.
 */
export class Http2Request implements Sent, BodySink {
  readonly #headers: OutgoingHttpHeaders
  readonly #source: BodySource | null
  /** Body that is already complete. */
  readonly #whole: Buffer | undefined
  #stream: ClientHttp2Stream | undefined
  #kept: Buffer[] | undefined = []
  #keptBytes = 0
  #bodyEnded = false
  #started = false
  #answered = false
  #over = false
  /** True once the handler has aborted: the rest is discarded. */
  #dropped = false
  #announced = -1
  #received = 0
  #trailers: string[] | null = null
  #reason: Error | undefined
  attempts = 0

  constructor(
    scheme: 'http' | 'https',
    request: SenderRequest,
    readonly handler: ResponseHandler,
  ) {
    const { body } = request
    this.#headers = http2Headers(scheme, request)
    this.#whole = Buffer.isBuffer(body) ? body : undefined
    this.#source = Buffer.isBuffer(body) ? null : body
  }

  /** Fails a request of which nothing has been sent. */
  fail(error: Error): void {
    if (this.#over) return
    this.#over = true
    this.handler.onError(error)
  }

  /**
   * Sends the request.
   *
   * @param connection has the last stream that the other side will process, once it has said so
   * @param ended called once, when the stream is closed
   * @returns false when the client has gone meanwhile
   */
  send(
    connection: { readonly session: ClientHttp2Session; readonly lastStream: number },
    ended: (outcome: StreamOutcome) => void,
  ): boolean {
    this.attempts++
    try {
      this.handler.onConnect(this)
    } catch (error) {
      this.fail(error as Error)
      return false
    }
    let stream: ClientHttp2Stream
    try {
      stream = connection.session.request(this.#headers, { endStream: this.#bodiless })
    } catch (error) {
      // The connection was closed just before: nothing was sent.
      this.#reason = error as Error
      queueMicrotask(() => ended('unprocessed'))
      return true
    }
    this.#stream = stream
    stream.push = pushNoting
    stream.on('headers', this.#onInformation)
    stream.on('response', this.#onResponse)
    stream.on('trailers', this.#onTrailers)
    stream.on('data', this.#onData)
    stream.on('end', this.#onEnd)
    stream.on('drain', this.#onDrain)
    stream.on('error', this.#onStreamError)
    stream.on('close', () => ended(this.#closed(stream, connection.lastStream)))
    this.#upload()
    return true
  }

  /** Returns true if the request may be sent again: the upstream has not processed it, and its whole body is kept. */
  get repeatable(): boolean {
    return !this.#over && !this.#answered && this.#kept !== undefined
  }

  /** Makes an unprocessed attempt the last one. */
  giveUp(): void {
    this.fail(
      coded('UPSTREAM_UNPROCESSED', this.#reason?.message ?? 'the upstream did not process the request'),
    )
  }

  #onInformation = (_: unknown, __: number, raw: string[]): void => {
    if (this.#over) return
    const [status, fields] = split(raw)
    this.handler.onHeaders(status, fields, '')
  }

  #onResponse = (_: unknown, __: number, raw: string[]): void => {
    if (this.#over) return
    this.#answered = true
    this.#kept = undefined
    this.handler.onResponseStarted?.()
    const [status, fields, length] = split(raw)
    if (status < 200) {
      // nghttp2 accepts any three digits as a status.
      this.#refuse(`the status ${status} is below 100`)
      return
    }
    this.#announced = status === 204 || status === 304 || this.#headers[':method'] === 'HEAD' ? -1 : length
    this.handler.onHeaders(status, fields, '')
  }

  #onData = (chunk: Buffer): void => {
    if (this.#over || this.#dropped) return
    this.#received += chunk.length
    if (this.handler.onData(chunk) === false) this.#stream!.pause()
  }

  #onTrailers = (_: unknown, __: number, raw: string[]): void => {
    this.#trailers = raw
  }

  /**
   * Handles the end of a stream. Node also ends a stream that was reset. With NO_ERROR, by which a server says that it
   * needs no more of the request (RFC 9113 §8.1), that looks like the end of a truncated response.
   */
  #onEnd = (): void => {
    const stream = this.#stream!
    if (this.#over || this.#dropped || !this.#answered || stream.rstCode !== constants.NGHTTP2_NO_ERROR)
      return
    if (!hasEnded(stream)) return
    if (this.#announced >= 0 && this.#announced !== this.#received) return
    this.#over = true
    this.handler.onComplete(this.#trailers)
    // The response came before the end of the upload: no one needs the rest, and without window from the upstream it
    // would hold the stream for ever.
    if (!this.#bodiless && !stream.writableFinished) stream.close(constants.NGHTTP2_CANCEL)
  }

  #onStreamError = (error: Error): void => {
    this.#reason ??= error
  }

  /** Rejects an invalid response, before the handler has got any part of it. */
  #refuse(what: string): void {
    const stream = this.#stream!
    this.fail(coded('UPSTREAM_MALFORMED', `the response is malformed: ${what}`))
    stream.close(constants.NGHTTP2_PROTOCOL_ERROR)
    stream.resume()
  }

  resume(): void {
    this.#stream?.resume()
  }

  abort(): void {
    if (this.#over) return
    this.#reason = coded('UPSTREAM_ABORTED', 'the gateway gave up the request')
    this.#kept = undefined
    this.#dropped = true
    this.#stream?.close(constants.NGHTTP2_CANCEL)
    // Node reports the close of a complete response only once it has been read.
    this.#stream?.resume()
  }

  #closed({ id = 0, rstCode }: ClientHttp2Stream, lastStream: number): StreamOutcome {
    if (this.#over) return 'done'
    const given = (this.#reason as NodeJS.ErrnoException | undefined)?.code === 'UPSTREAM_ABORTED'
    this.#stream = undefined
    if (!given && this.repeatable && (rstCode === constants.NGHTTP2_REFUSED_STREAM || id > lastStream))
      return 'unprocessed'
    this.fail(this.#reason ?? coded('UPSTREAM_RESET', resetText(rstCode)))
    return given ? 'cancelled' : 'failed'
  }

  // Body of the request

  get #bodiless(): boolean {
    return this.#source === null && this.#whole === undefined
  }

  #upload(): void {
    const stream = this.#stream!
    if (this.#whole !== undefined) stream.end(this.#whole)
    if (this.#source === null) return
    let writable = true
    for (const piece of this.#kept!) writable = stream.write(piece)
    if (this.#bodyEnded) stream.end()
    else if (!this.#started) {
      this.#started = true
      this.#source.start(this)
    } else if (writable) this.#source.resume()
  }

  write(piece: Buffer): boolean {
    const kept = this.#kept
    if (kept !== undefined) {
      this.#keptBytes += piece.length
      if (this.#keptBytes > MAX_KEPT) this.#kept = undefined
      else kept.push(piece)
    }
    const stream = this.#stream
    // The request may be sent on another connection.
    if (stream === undefined) return false
    return stream.destroyed || stream.closed || stream.write(piece)
  }

  #onDrain = (): void => {
    if (!this.#bodyEnded) this.#source?.resume()
  }

  end(): void {
    this.#bodyEnded = true
    this.#stream?.end()
  }
}

const ENDED = Symbol('the other side has ended the stream')
interface Ending {
  [ENDED]?: boolean
}

/**
 * Notes that a stream ended by END_STREAM. Node reports either end by `push(null)`: after END_STREAM while the stream
 * is open, after a reset once it is closed.
 */
function pushNoting(this: ClientHttp2Stream, chunk: unknown, encoding?: BufferEncoding): boolean {
  if (chunk === null && !this.closed) (this as Ending)[ENDED] = true
  return Readable.prototype.push.call(this, chunk, encoding)
}

function hasEnded(stream: ClientHttp2Stream): boolean {
  return (stream as Ending)[ENDED] === true
}

function resetText(code: number): string {
  const name = Object.entries(constants).find(
    ([key, value]) => value === code && /^NGHTTP2_[A-Z_]+$/.test(key),
  )
  return `the stream was reset (${name?.[0].slice('NGHTTP2_'.length) ?? code}) before the response was complete`
}

/**
 * Converts headers to HTTP/2: Host becomes `:authority`, names become lower case, and headers about a connection of
 * HTTP/1.1 are left out.
 */
function http2Headers(
  scheme: 'http' | 'https',
  { method, path, fields, body, length }: SenderRequest,
): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = Object.create(null)
  headers[':method'] = method
  headers[':scheme'] = scheme
  headers[':authority'] = ''
  headers[':path'] = path
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!.toLowerCase()
    const value = fields[i + 1]!
    const before = headers[name]
    if (name === 'host') headers[':authority'] = value
    else if (before === undefined) headers[name] = value
    // Node refuses a list of these. They are joined, as RFC 9110 §5.3 allows.
    else if (SINGLE_VALUE_FIELDS.has(name)) headers[name] = `${before}, ${value}`
    else if (Array.isArray(before)) before.push(value)
    else headers[name] = [before, value]
  }
  if (Buffer.isBuffer(body)) headers['content-length'] = String(body.length)
  else if (body !== null && length >= 0) headers['content-length'] = String(length)
  // The gateway forwards trailers, or leaves them out where it must; gRPC servers require this.
  headers.te = 'trailers'
  return headers
}

/** Splits raw headers into the status, the headers, and the announced length, or -1. */
function split(raw: readonly string[]): [status: number, fields: string[], length: number] {
  let status = 0
  let length = -1
  const fields: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!
    const value = raw[i + 1]!
    if (name === ':status') status = Number(value)
    else {
      if (name === 'content-length') length = Number(value)
      fields.push(name, value)
    }
  }
  return [status, fields, length]
}
