import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** Longer than anything takes here, on a machine however busy, in ms. */
const PATIENCE = 30_000

/** A response as bytes of the wire. */
export interface RawResponse {
  readonly status: number
  /** Status line and header as text, without the empty line at the end. */
  readonly head: string
  readonly body: string
  /** Returns a field's value by its lower-case name, several joined by ', '; undefined if there is none. */
  header(name: string): string | undefined
}

/** Returns the text of an HTTP/1.1 request, up to where its body begins. */
export function rawRequest(line: string, ...fields: readonly string[]): string {
  return [`${line} HTTP/1.1`, 'Host: gateway.example', ...fields, '', ''].join('\r\n')
}

/** A connection on which a test sends exactly the bytes it wants. */
export interface RawConnection {
  readonly socket: Socket
  /** Returns everything that came so far, one character a byte. */
  received(): string
  /** Returns the complete final responses, without 1xx. */
  responses(): readonly RawResponse[]
  isClosed(): boolean
  write(bytes: string): void
  /** Resolves once the condition holds; rejects with what was received if it does not within the time. */
  until(what: string, condition: () => boolean, timeoutMs?: number): Promise<void>
  closed(timeoutMs?: number): Promise<void>
}

/** @param head whether the responses are to HEAD, and end with their header */
export async function openRaw(port: number, head = false): Promise<RawConnection> {
  const socket = connect(port, '127.0.0.1')
  const connection = rawOn(socket, head)
  await once(socket, 'connect')
  return connection
}

/** Wraps an own socket: from another address, or encrypted. */
export function rawOn(socket: Socket, head = false): RawConnection {
  let text = ''
  let over = false
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const one of waiting) one()
  }
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
    wake()
  })
  // A reset counts as an end here: a test that cares looks at what came before.
  socket.on('error', () => {})
  socket.on('close', () => {
    over = true
    wake()
  })
  const connection: RawConnection = {
    socket,
    received: () => text,
    responses: () => parseResponses(text, over, head),
    isClosed: () => over,
    write: (bytes) => void socket.write(bytes, 'latin1'),
    until(what, condition, timeoutMs = PATIENCE) {
      return new Promise((resolve, reject) => {
        const check = () => {
          let holds = false
          try {
            holds = condition()
          } catch (error) {
            // The bytes are no response. Thrown here, the error would reach nobody.
            settle(() => reject(error))
            return
          }
          if (holds) settle(resolve)
          else if (over) settle(() => reject(new Error(`closed before ${what}: ${JSON.stringify(text)}`)))
        }
        const settle = (then: () => void) => {
          clearTimeout(timer)
          waiting.delete(check)
          then()
        }
        const timer = setTimeout(
          () => settle(() => reject(new Error(`no ${what} within ${timeoutMs} ms: ${JSON.stringify(text)}`))),
          timeoutMs,
        )
        waiting.add(check)
        check()
      })
    },
    closed: (timeoutMs) => connection.until('end of the connection', () => over, timeoutMs),
  }
  return connection
}

export interface RawExchange {
  readonly responses: readonly RawResponse[]
  /** True if the gateway closed the connection after them. */
  readonly closed: boolean
  readonly text: string
}

/**
 * Sends bytes and reads `count` final responses, one by default. After a response that says `Connection: close` the connection has to end
 * by itself, or this rejects.
 */
export async function rawExchange(
  port: number,
  bytes: string,
  { responses = 1, head = false, timeoutMs = PATIENCE } = {},
): Promise<RawExchange> {
  const connection = await openRaw(port, head)
  try {
    connection.write(bytes)
    const arrived = () => connection.responses().length >= responses
    await connection.until(`${responses} responses`, () => arrived() || connection.isClosed(), timeoutMs)
    const last = connection.responses().at(-1)
    if (last?.header('connection')?.toLowerCase() === 'close') await connection.closed(timeoutMs)
    return {
      responses: connection.responses(),
      closed: connection.isClosed(),
      text: connection.received(),
    }
  } finally {
    connection.socket.destroy()
  }
}

function parseResponses(text: string, over: boolean, noBodies: boolean): RawResponse[] {
  const found: RawResponse[] = []
  let at = 0
  for (;;) {
    const end = text.indexOf('\r\n\r\n', at)
    if (end < 0) return found
    const head = text.slice(at, end)
    const status = Number(/^HTTP\/1\.[01] ([0-9]{3})/.exec(head)?.[1])
    if (Number.isNaN(status)) throw new Error(`not a response: ${JSON.stringify(text.slice(at))}`)
    at = end + 4
    if (status < 200 && status !== 101) continue
    const header = (name: string) => fieldOf(head, name)
    const bodiless = noBodies || status === 204 || status === 304 || status === 101
    const body = bodiless ? { text: '', next: at } : bodyFrom(text, at, over, header)
    if (body === undefined) return found
    found.push({ status, head, body: body.text, header })
    at = body.next
  }
}

function bodyFrom(
  text: string,
  from: number,
  over: boolean,
  header: (name: string) => string | undefined,
): { text: string; next: number } | undefined {
  if (header('transfer-encoding') !== undefined) {
    let body = ''
    for (let at = from; ; ) {
      const line = text.indexOf('\r\n', at)
      if (line < 0) return undefined
      const size = Number.parseInt(text.slice(at, line), 16)
      if (text.length < line + 2 + size + 2) return undefined
      if (size === 0) return { text: body, next: line + 4 }
      body += text.slice(line + 2, line + 2 + size)
      at = line + 2 + size + 2
    }
  }
  const length = header('content-length')
  if (length === undefined) return over ? { text: text.slice(from), next: text.length } : undefined
  const next = from + Number(length)
  return text.length < next ? undefined : { text: text.slice(from, next), next }
}

function fieldOf(head: string, name: string): string | undefined {
  const values: string[] = []
  for (const line of head.split('\r\n').slice(1)) {
    const colon = line.indexOf(':')
    if (line.slice(0, colon).toLowerCase() === name) values.push(line.slice(colon + 1).trim())
  }
  return values.length === 0 ? undefined : values.join(', ')
}
