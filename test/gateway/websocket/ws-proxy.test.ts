import { once } from 'node:events'
import { type ClientRequest, createServer, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, type RequestOptions } from 'node:https'
import { type AddressInfo, connect, createServer as createSocketServer, type Socket } from 'node:net'
import httpProxy from 'http-proxy'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'

/*
 * src/gateway/websocket/ws-proxy.ts uses internals of http-proxy. These tests check that http-proxy still has them: a version
 * without one fails here, under the name by which the source mentions it.
 */

interface Lent {
  readonly request: ClientRequest
  /** The members of the request that http-proxy has read. */
  readonly read: ReadonlySet<string>
  /** Whether the event came before `proxy.ws` returned. */
  readonly inTime: boolean
  readonly client: Socket
  /** The other side of `client`. */
  readonly peer: Socket
}

/** Returns two sockets that are connected with each other. */
async function socketPair(t: Test): Promise<[Socket, Socket]> {
  const server = createSocketServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [far] = (await once(server, 'connection')) as [Socket]
  for (const socket of [near, far]) socket.on('error', () => {})
  t.teardown(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return [near, far]
}

/** Hands http-proxy a handshake as the gateway does. */
async function lend(t: Test, options: httpProxy.ServerOptions): Promise<Lent> {
  const [client, peer] = await socketPair(t)
  const read = new Set<string>()
  const asked = {
    method: 'GET',
    url: '/',
    headers: { connection: 'Upgrade', upgrade: 'websocket', 'X-A': ['1', '2'] },
  }
  const handshake = new Proxy(asked, {
    get(target, name) {
      read.add(String(name))
      return Reflect.get(target, name)
    },
  })
  const proxy = httpProxy.createProxyServer({})
  let request: ClientRequest | undefined
  proxy.on('proxyReqWs', (sent) => {
    sent.path = '/a//b/../c'
    request = sent
  })
  proxy.ws(handshake as unknown as IncomingMessage, client, Buffer.alloc(0), options, () => {})
  const inTime = request !== undefined
  await eventually('http-proxy emits proxyReqWs', () => request !== undefined)
  t.teardown(() => void request!.destroy())
  return { request: request!, read, inTime, client, peer }
}

/** Starts an upstream that remembers the heads of requests and answers none. */
async function deaf(t: Test) {
  const targets: string[] = []
  const repeated: (readonly string[])[] = []
  const server = createServer()
  server.on('upgrade', (request: IncomingMessage, socket: Socket) => {
    targets.push(request.url!)
    repeated.push(request.rawHeaders.filter((_, i) => i % 2 === 1 && request.rawHeaders[i - 1] === 'X-A'))
    socket.on('error', () => {})
    t.teardown(() => void socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  return { targets, repeated, target: { protocol: 'http:', host: '127.0.0.1', port: String(port) } }
}

t.test('http-proxy has the internals that the gateway uses', async (t) => {
  t.test(
    '[request event] proxyReqWs brings the request, before ws() returns and before the header is sent',
    async (t) => {
      const { target } = await deaf(t)
      const { request, inTime } = await lend(t, { target })
      t.ok(inTime, 'proxyReqWs is emitted before ws() returns')
      t.type(request.removeAllListeners, 'function', 'it brings a ClientRequest')
    },
  )

  t.test('[what it reads] it reads method, url and headers of a request, and nothing else', async (t) => {
    const { target } = await deaf(t)
    const { read } = await lend(t, { target })
    t.same([...read].sort(), ['headers', 'method', 'url'])
  })

  t.test('[path] a path set at that event is sent; a list is sent as repeated fields', async (t) => {
    const { target, targets, repeated } = await deaf(t)
    await lend(t, { target })
    await eventually('the upstream has the handshake', () => targets.length === 1)
    t.same(targets, ['/a//b/../c'])
    t.same(repeated, [['1', '2']])
  })

  t.test(
    '[upgrade listener] [other listeners] the request has one listener each, all of http-proxy',
    async (t) => {
      const { target } = await deaf(t)
      const { request } = await lend(t, { target })
      for (const event of ['upgrade', 'response', 'error'])
        t.equal(request.listenerCount(event), 1, `for ${event}`)
      t.equal(
        request.listeners('upgrade')[0]!.length,
        3,
        'the upgrade listener takes answer, socket and head',
      )
    },
  )

  t.test(
    '[101 header] [101 bytes] that listener sends answer.headers as text, and pipes both ways',
    async (t) => {
      const { target } = await deaf(t)
      const { request, client, peer } = await lend(t, { target })
      const [upstream, backend] = await socketPair(t)
      const join = request.listeners('upgrade')[0] as (answer: object, socket: Socket, head: Buffer) => void
      client.setDefaultEncoding('latin1')
      join({ headers: { Upgrade: 'websocket', 'X-B': ['\xe9', '2'] } }, upstream, Buffer.from('early'))
      backend.write('down')
      peer.write('up')
      let received = ''
      peer.on('data', (chunk: Buffer) => {
        received += chunk.toString('latin1')
      })
      await eventually('all has come', () => received.endsWith('down'))
      t.equal(
        received,
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-B: \xe9\r\nX-B: 2\r\n\r\nearlydown',
      )
      t.equal(String((await once(backend, 'data'))[0]), 'up')
    },
  )

  t.test('[TLS settings] target, secure, ssl and agent reach the request', async (t) => {
    let got: RequestOptions | undefined
    const agent = new HttpsAgent()
    Object.assign(agent, {
      addRequest(_: ClientRequest, options: RequestOptions) {
        got = options
      },
    })
    const target = { protocol: 'https:', host: 'upstream', port: '8443', ca: 'ca', cert: 'cert', key: 'key' }
    const ssl = { servername: 'name', ALPNProtocols: ['http/1.1'], minVersion: 'TLSv1.2' }
    await lend(t, { target, ssl, secure: false, agent } as httpProxy.ServerOptions)
    t.match(got, {
      host: 'upstream',
      port: '8443',
      ca: 'ca',
      cert: 'cert',
      key: 'key',
      ...ssl,
      rejectUnauthorized: false,
    })
  })
})
