import { once } from 'node:events'
import { type ConnectionOptions, connect } from 'node:tls'
import type { Test } from 'tap'
import { createAuthority } from '../credentials/authority.js'
import { startGateway, type TestGateway } from '../gateway/gateway.js'
import { startEntrance } from './entrance.js'
import { http2Client } from './http2-client.js'
import { openRaw, type RawConnection, rawOn } from './raw.js'
import { KEY } from './websocket.js'

/** A request, in any protocol. */
export interface Asked {
  readonly method?: string
  readonly target?: string
  readonly host?: string
  readonly fields?: readonly (readonly [name: string, value: string])[]
}

export interface Answered {
  /** Status; 0 if the connection or the stream ended without a response. */
  readonly status: number
  readonly body: string
  /** Returns a header's value by its lower-case name, several joined by ', '. */
  header(name: string): string | undefined
}

/** A way in which a client can reach the gateway. */
export interface Face {
  readonly name: 'plain' | 'node' | 'tls' | 'http2' | 'upgrade'
  readonly gateway: TestGateway
  ask(asked?: Asked): Promise<Answered>
  /** Opens a connection for bytes as the test writes them; undefined over HTTP/2. */
  readonly open: (() => Promise<RawConnection>) | undefined
}

/**
 * Starts one configuration behind every face: requests that the gateway reads itself (plain), those that it leaves to Node's parser, TLS,
 * HTTP/2, and WebSocket handshakes.
 *
 * @param yaml without `server`; routes need `websocket: true` for the last face to get through
 */
export async function startFaces(t: Test, yaml: string, server = ''): Promise<readonly Face[]> {
  const pair = createAuthority(t).issue('api', 'DNS:api.example')
  const open = await startGateway(t, `${yaml}\nserver: { http2: true, ${server} }\n`)
  const secure = await startEntrance(
    t,
    `${yaml}\nserver: { tls: { certificates: [${JSON.stringify(pair)}] }, ${server} }\n`,
  )
  const over = (name: Face['name'], gateway: TestGateway, extra: readonly string[], dial: Dial): Face => ({
    name,
    gateway,
    ask: (asked = {}) => askHttp1(dial, gateway.port, asked, extra),
    open: () => dial(gateway.port, false),
  })
  return [
    over('plain', open, [], openRaw),
    over('node', open, ['Connection: close'], openRaw),
    over('tls', secure.gateway, [], openTlsClient),
    {
      name: 'http2',
      gateway: open,
      ask: (asked = {}) => askHttp2(t, open.origin, asked),
      open: undefined,
    },
    over('upgrade', open, HANDSHAKE, openRaw),
  ]
}

type Dial = (port: number, head: boolean) => Promise<RawConnection>

const HANDSHAKE = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  `Sec-WebSocket-Key: ${KEY}`,
]

export async function openTlsClient(
  port: number,
  head: boolean,
  options: ConnectionOptions = {},
): Promise<RawConnection> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    servername: 'api.example',
    rejectUnauthorized: false,
    ...options,
  })
  const connection = rawOn(socket, head)
  await once(socket, 'secureConnect')
  return connection
}

async function askHttp1(
  dial: Dial,
  port: number,
  { method = 'GET', target = '/', host = 'api.example', fields = [] }: Asked,
  extra: readonly string[],
): Promise<Answered> {
  const connection = await dial(port, method === 'HEAD')
  const lines = fields.map(([name, value]) => `${name}: ${value}`)
  connection.write([`${method} ${target} HTTP/1.1`, `Host: ${host}`, ...lines, ...extra, '', ''].join('\r\n'))
  await connection.until('an answer', () => connection.responses().length > 0 || connection.isClosed())
  connection.socket.destroy()
  return connection.responses()[0] ?? { status: 0, body: '', header: () => undefined }
}

async function askHttp2(
  t: Test,
  origin: string,
  { method = 'GET', target = '/', host = 'api.example', fields = [] }: Asked,
): Promise<Answered> {
  const client = await http2Client(t, origin)
  const headers: Record<string, string[]> = {}
  for (const [name, value] of fields) {
    const key = name.toLowerCase()
    headers[key] = [...(headers[key] ?? []), value]
  }
  const single = Object.entries(headers).map(([name, all]) => [name, all.length === 1 ? all[0]! : all])
  const answer = await client.ask(target, {
    ':method': method,
    ':authority': host,
    ...Object.fromEntries(single),
  })
  client.session.destroy()
  const header = (name: string) => {
    const value = answer.headers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }
  return { status: answer.status, body: answer.body, header }
}
