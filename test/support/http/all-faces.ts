import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import type { Test } from 'tap'
import { createAuthority } from '../credentials/authority.js'
import { startGateway, type TestGateway } from '../gateway/gateway.js'
import { startEntrance } from './entrance.js'
import { answerOn } from './http2-client.js'
import { openRaw, type RawConnection, rawOn } from './raw.js'
import { type RawRequest, type RawUpstream, rawUpstream } from './raw-upstream.js'

/** A request as every face can send it. */
export interface Sent {
  readonly method: string
  readonly target: string
  /** Names and values in order; `Host` is added in front. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** Pieces of the body, each in a packet of its own; undefined: no body. */
  readonly body: readonly string[] | undefined
  /** True: the length is announced; false: it is not (chunks in HTTP/1.1). */
  readonly sized: boolean
  readonly trailers: readonly (readonly [name: string, value: string])[]
}

/** A response, read the same way from every face. */
export interface Answer {
  /** 0 if the connection or the stream ended without one. */
  readonly status: number
  /** Names as on the wire and values, in order. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  readonly body: string
  /** True if the body was cut off before its end. */
  readonly cut: boolean
}

export interface AnyFace {
  readonly name: string
  readonly http2: boolean
  readonly gateway: TestGateway
  readonly upstream: RawUpstream
  ask(sent: Sent): Promise<Answer>
}

const HOST = 'api.example'
/** Between two pieces, so that they arrive one by one, in ms. */
const PAUSE_MS = 10

/**
 * Starts one configuration behind each way in, with an upstream for each: HTTP/1.1 in plain text and with TLS, each read by the plain
 * path and by Node's parser, and HTTP/2 in plain text and with TLS. A face keeps one connection for all its requests, as long as the
 * gateway lets it.
 *
 * @param yaml makes a configuration without `server` from the address of an upstream
 * @param handler answers every complete request
 */
export function startAllFaces(
  t: Test,
  yaml: (origin: string) => string,
  handler: (request: RawRequest) => void,
): Promise<readonly AnyFace[]> {
  const pair = JSON.stringify(createAuthority(t).issue('api', `DNS:${HOST}`))
  async function start(name: string, keys: string, tls: boolean, http2: boolean): Promise<AnyFace> {
    const upstream = await rawUpstream(t, handler)
    const certificates = tls ? `tls: { certificates: [${pair}] }, ` : ''
    const text = `${yaml(upstream.origin)}\nserver: { ${certificates}${keys} }\n`
    const gateway = tls
      ? (await startEntrance(t, text, { alpn: http2 ? ['h2', 'http/1.1'] : ['http/1.1'] })).gateway
      : await startGateway(t, text)
    const ask = (http2 ? http2Client : http1Client)(t, gateway.port, tls)
    return { name, http2, gateway, upstream, ask }
  }
  return Promise.all([
    start('plain', 'plain_path: true', false, false),
    start('node:http', 'plain_path: false', false, false),
    start('TLS plain', 'plain_path: true', true, false),
    start('TLS node:http', 'plain_path: false', true, false),
    start('HTTP/2', 'http2: true', false, true),
    start('HTTP/2 TLS', 'http2: true', true, true),
  ])
}

/** Returns a function that sends requests over one HTTP/1.1 connection after the other. */
function http1Client(t: Test, port: number, tls: boolean): AnyFace['ask'] {
  let connection: RawConnection | undefined
  let before = 0
  let head = false
  async function open(): Promise<RawConnection> {
    if (!tls) return openRaw(port, head)
    const socket = connectTls({ port, host: '127.0.0.1', servername: HOST, rejectUnauthorized: false })
    const secured = rawOn(socket, head)
    await once(socket, 'secureConnect')
    return secured
  }
  t.teardown(() => connection?.socket.destroy())
  return async (sent) => {
    const isHead = sent.method === 'HEAD'
    // Whether responses have bodies is fixed for a connection.
    if (connection === undefined || connection.isClosed() || isHead !== head) {
      connection?.socket.destroy()
      head = isHead
      connection = await open()
      before = 0
    }
    const mine = connection
    mine.write(headOf(sent))
    if (sent.body !== undefined) {
      for (const piece of sent.body) {
        await sleep(PAUSE_MS)
        mine.write(sent.sized ? piece : `${piece.length.toString(16)}\r\n${piece}\r\n`)
      }
      if (!sent.sized) mine.write(`0\r\n${linesOf(sent.trailers)}\r\n`)
    }
    await mine.until('an answer', () => mine.responses().length > before || mine.isClosed())
    const answer = mine.responses()[before]
    if (answer === undefined) {
      const text = mine.received()
      const [cut, ...rest] = text.slice(Math.max(0, text.lastIndexOf('HTTP/1.1 '))).split('\r\n\r\n')
      const got = rest.join('\r\n\r\n')
      const body = /^transfer-encoding:/im.test(cut!)
        ? got.replace(/[0-9a-f]+\r\n([\s\S]*?)\r\n/g, '$1')
        : got
      return { status: Number(cut!.slice(9, 12)), fields: fieldsOf(cut!), body, cut: true }
    }
    before++
    if (answer.header('connection') === 'close') await mine.closed()
    return { status: answer.status, fields: fieldsOf(answer.head), body: answer.body, cut: false }
  }
}

function headOf({ method, target, fields, body, sized }: Sent): string {
  const framing: [string, string][] = []
  if (body !== undefined) {
    framing.push(sized ? ['Content-Length', String(body.join('').length)] : ['Transfer-Encoding', 'chunked'])
  }
  return `${method} ${target} HTTP/1.1\r\n${linesOf([['Host', HOST], ...fields, ...framing])}\r\n`
}

const linesOf = (fields: Sent['fields']) => fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')

/** Returns the fields of a head, without its first line. */
export function fieldsOf(head: string): [name: string, value: string][] {
  return head
    .split('\r\n')
    .slice(1)
    .map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    })
}

/** Returns a function that sends requests over one HTTP/2 connection after the other. */
function http2Client(t: Test, port: number, tls: boolean): AnyFace['ask'] {
  let session: ClientHttp2Session | undefined
  t.teardown(() => session?.destroy())
  return async ({ method, target, fields, body, sized, trailers }) => {
    if (session === undefined || session.closed || session.destroyed) {
      session = connectHttp2(`${tls ? 'https' : 'http'}://127.0.0.1:${port}`, {
        servername: HOST,
        rejectUnauthorized: false,
      })
      session.on('error', () => {})
      await once(session, 'connect')
    }
    const headers: Record<string, string | string[]> = {
      ':method': method,
      ':path': target,
      ':scheme': tls ? 'https' : 'http',
      ':authority': HOST,
    }
    for (const [name, value] of fields) {
      const key = name.toLowerCase()
      headers[key] = key in headers ? [headers[key]!, value].flat() : value
    }
    if (body !== undefined && sized) headers['content-length'] = String(body.join('').length)
    const stream = session.request(headers, {
      endStream: body === undefined,
      waitForTrailers: trailers.length > 0,
    })
    stream.on('error', () => {})
    stream.on('wantTrailers', () => stream.sendTrailers(Object.fromEntries(trailers)))
    let raw: string[] = []
    stream.on('response', (_all: object, _flags: number, list: string[]) => {
      raw = list
    })
    const answered = answerOn(stream)
    if (body !== undefined) {
      for (const piece of body) {
        await sleep(PAUSE_MS)
        stream.write(Buffer.from(piece, 'latin1'))
      }
      stream.end()
    }
    const { status, body: text, code } = await answered
    const list: [string, string][] = []
    for (let i = 0; i < raw.length; i += 2) if (raw[i] !== ':status') list.push([raw[i]!, raw[i + 1]!])
    return { status, fields: list, body: text, cut: code !== 0 || status === 0 }
  }
}
