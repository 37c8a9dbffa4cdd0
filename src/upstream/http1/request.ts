import { coded, type ResponseHandler, type SenderRequest, type Sent } from '../sender.js'

/** Operations of a request on its connection. */
interface Carrier {
  gone(error: Error): void
  resume(): void
}

/** A request that waits for a connection, or has one. */
export class Http1Request implements Sent {
  /** Connection that carries the request, until the request is over. */
  connection: Carrier | undefined
  /** True if its first connection was closed before any byte of it was sent. */
  again = false

  constructor(
    readonly request: SenderRequest,
    readonly handler: ResponseHandler,
  ) {}

  abort(): void {
    this.connection?.gone(coded('UPSTREAM_ABORTED', 'the gateway gave up the request'))
  }

  resume(): void {
    this.connection?.resume()
  }
}

/**
 * Methods that expect a body: without one, the request says so (RFC 9110 §8.6). Servers are not trusted to read the
 * body of any other method.
 */
const WITH_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'QUERY', 'PROPFIND', 'PROPPATCH'])

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const NO_VALUE = /[^\t\x20-\x7e\x80-\xff]/
const NO_PATH = /[^\x21-\x7e\x80-\xff]/

/**
 * Returns true if the connection must not be reused after this request. Either the request asks for it; or a server
 * that answers HEAD with a body, or leaves the body of a GET unread, could corrupt the next exchange.
 */
export function isLast({ method, body, last }: SenderRequest): boolean {
  return last === true || method === 'HEAD' || (body !== null && !WITH_BODY.has(method))
}

/**
 * Returns the request line and headers, up to but not including the empty line, one character per byte; for a streamed
 * body, without its framing.
 *
 * @throws for a request that would be read in another way than meant: nothing from a client may get this far
 */
export function headOf(request: SenderRequest): string {
  const { method, path, fields, body, clean } = request
  if (!TOKEN.test(method) || NO_PATH.test(path))
    throw coded('UPSTREAM_UNSENDABLE', 'the request line is malformed')
  let head = `${method} ${path} HTTP/1.1\r\n${isLast(request) ? 'connection: close\r\n' : 'connection: keep-alive\r\n'}`
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    const value = fields[i + 1]!
    if (clean !== true && (!TOKEN.test(name) || NO_VALUE.test(value)))
      throw coded('UPSTREAM_UNSENDABLE', `the field ${name} is malformed`)
    head += `${name}: ${value}\r\n`
  }
  if (body === null) return WITH_BODY.has(method) ? `${head}content-length: 0\r\n` : head
  return Buffer.isBuffer(body) ? `${head}content-length: ${body.length}\r\n` : head
}
