import { coded, type ResponseHandler, type SenderRequest, type Sent } from '../sender.js'

/** What a request may do to its connection. */
interface Carrier {
  gone(error: Error): void
  resume(): void
}

/** A request that waits for a connection, or has one. */
export class Http1Request implements Sent {
  readonly request: SenderRequest
  readonly handler: ResponseHandler
  /** Has it, until it is over. */
  connection: Carrier | undefined
  /** Its first connection was closed before anything of it had left. */
  again = false

  constructor(request: SenderRequest, handler: ResponseHandler) {
    this.request = request
    this.handler = handler
  }

  abort(): void {
    this.connection?.gone(coded('UPSTREAM_ABORTED', 'the request was given up'))
  }

  resume(): void {
    this.connection?.resume()
  }
}

/** Those who expect a body: without one they say so (RFC 9110 §8.6). The others with one are not trusted to read it. */
const WITH_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'QUERY', 'PROPFIND', 'PROPPATCH'])

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const NO_VALUE = /[^\t\x20-\x7e\x80-\xff]/
const NO_PATH = /[^\x21-\x7e\x80-\xff]/

/**
 * Whether the connection is not used again after this request: it says so itself; a server that answers HEAD with a body,
 * or leaves the body of a GET unread, must not be misunderstood by the next one.
 */
export function isLast({ method, body, last }: SenderRequest): boolean {
  return last === true || method === 'HEAD' || (body !== null && !WITH_BODY.has(method))
}

/**
 * Request line and fields, up to the empty line but without it, one character a byte; of a body that comes bit by bit,
 * without how it is framed.
 *
 * @throws for what would not be read as it is meant: nothing that comes from a caller may get so far
 */
export function headOf(request: SenderRequest): string {
  const { method, path, fields, body } = request
  if (!TOKEN.test(method) || NO_PATH.test(path))
    throw coded('UPSTREAM_UNSENDABLE', 'the request line is malformed')
  let head = `${method} ${path} HTTP/1.1\r\n${isLast(request) ? 'connection: close\r\n' : 'connection: keep-alive\r\n'}`
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    const value = fields[i + 1]!
    if (!TOKEN.test(name) || NO_VALUE.test(value))
      throw coded('UPSTREAM_UNSENDABLE', `the field ${name} is malformed`)
    head += `${name}: ${value}\r\n`
  }
  if (body === null) return WITH_BODY.has(method) ? `${head}content-length: 0\r\n` : head
  return Buffer.isBuffer(body) ? `${head}content-length: ${body.length}\r\n` : head
}
