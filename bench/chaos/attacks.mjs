/**
 * Attacks of one address on the others (docs/threat-model.md), with the gateway and the backend they need. `neighbours.mjs` runs
 * each in a thread of its own and measures the others meanwhile; test/e2e/neighbours.test.ts begins each, and checks that nobody
 * else is refused.
 */
import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'

const ATTACKER = '127.0.0.2'
const ISSUER = 'https://id.example.com'

const portOf = (address) => Number(new URL(address).port)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** One after the other: a burst of them would be an attack on the CPU, for which there is `edge.ip_limit`. */
async function many(count, make, pauseMs = 1) {
  const made = []
  for (let i = 0; i < count; i++) {
    made.push(make(i))
    await sleep(pauseMs)
  }
  return Promise.all(made)
}

const encode = (data) => Buffer.from(JSON.stringify(data)).toString('base64url')

/** Opens a connection from the attacker, sends the bytes, and reads nothing. The gateway may refuse it. */
async function connect(address, bytes) {
  const socket = net.connect({ port: portOf(address), host: '127.0.0.1', localAddress: ATTACKER })
  socket.on('error', () => {})
  await once(socket, 'connect').catch(() => {})
  socket.pause()
  if (bytes !== undefined && !socket.destroyed) socket.write(bytes)
  return socket
}

const closing = (sockets) => () => {
  for (const socket of sockets) socket.destroy()
}

/** Opens connections, and sends a byte on each of them every two seconds. */
async function trickle(address, count, head, byte) {
  const sockets = await many(count, () => connect(address, head))
  const timer = setInterval(() => {
    for (const socket of sockets) if (!socket.destroyed) socket.write(byte)
  }, 2_000)
  return () => {
    clearInterval(timer)
    closing(sockets)()
  }
}

/**
 * Sends requests on so many connections, each with other headers, the next one so many ms after the answer to the one before:
 * on the average, or all of them would come at once every time.
 */
function flood(address, count, pauseMs, path, headers) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: count, localAddress: ATTACKER })
  let over = false
  const one = () => {
    if (over) return
    const again = () => setTimeout(one, 2 * pauseMs * Math.random())
    const req = http.request(address + path, { agent, headers: headers() }, (res) => {
      res.on('end', again).on('error', () => {})
      res.resume()
    })
    req.on('error', again)
    req.end()
  }
  for (let i = 0; i < count; i++) one()
  return () => {
    over = true
    agent.destroy()
  }
}

async function unreadStreams(address, connections, streams, path) {
  const sessions = await many(connections, async () => {
    const options = { localAddress: ATTACKER, settings: { initialWindowSize: 0 } }
    const session = http2.connect(address, options)
    session.on('error', () => {})
    await once(session, 'connect')
    for (let i = 0; i < streams; i++) session.request({ ':path': path }).on('error', () => {})
    return session
  })
  return closing(sessions)
}

const get = (path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`
const UPGRADE =
  'GET /api/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
const UPLOAD = 'POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx'
const NEIGHBOURS_KEY = 'key-of-the-neighbour'

// Tokens

const KID = 'current'
let pair
/** Made once, when needed. */
const keys = () => {
  pair ??= generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return pair
}

function unsigned(kid, sub) {
  const claims = { iss: ISSUER, aud: 'api', sub, exp: Math.floor(Date.now() / 1000) + 600 }
  return `${encode({ alg: 'ES256', kid })}.${encode(claims)}`
}

let made = 0
/** Returns a token that the gateway has not seen yet. */
function freshToken() {
  const text = unsigned(KID, `user-${made++}`)
  return `${text}.${sign('sha256', Buffer.from(text), { key: keys().privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

/** Returns a token of the issuer's key that it has not signed, or of a key that the issuer does not have. */
function forgedToken() {
  const kid = made++ % 2 === 0 ? KID : `unknown-${made}`
  return `${unsigned(kid, 'admin')}.${randomBytes(64).toString('base64url')}`
}

// Ids

let stranger = 0
/** Every second a new consumer pays for the first time. */
const payingId = () => `paid-${Math.floor(performance.now() / 1000)}`

/**
 * `gateway`: top-level settings besides those of all attacks. `begin` begins the attack on `{ address, admin }`, or a part of
 * it, and gives what ends it. `path` and `headers` are of the neighbour's requests, `path` on the admin port where `admin` is set.
 */
export const attacks = [
  {
    name: '300 idle connections to the admin port',
    admin: true,
    path: '/readyz',
    begin: async ({ admin }) => closing(await many(300, () => connect(admin))),
  },
  {
    name: '300 WebSockets that say nothing',
    begin: async ({ address }, part) => closing(await many(300 * part, () => connect(address, UPGRADE))),
  },
  {
    name: '300 WebSockets under a quota of 30 a minute',
    gateway: () => ({
      tiers: ['free', 'paid'],
      consumers: [
        { api_key: { keys: [{ key: NEIGHBOURS_KEY, consumer: 'neighbour', tier: 'paid' }] } },
        { ip: {} },
      ],
    }),
    limits: { free: '30/min', paid: 'unlimited' },
    headers: () => ({ 'x-api-key': NEIGHBOURS_KEY }),
    begin: async ({ address }, part) => closing(await many(300 * part, () => connect(address, UPGRADE))),
  },
  {
    name: '130 uploads of a byte every 2 s',
    begin: ({ address }, part) => trickle(address, 130 * part, UPLOAD, 'x'),
  },
  {
    name: '135 clients that read nothing of a large response',
    // The system buffers some MB for each before it takes no more.
    begin: async ({ address }, part) =>
      closing(await many(135 * part, () => connect(address, get('/api/large')), 50 * part)),
  },
  {
    name: '20 clients that pipeline 30 large responses behind an endless one',
    begin: async ({ address }, part) => {
      const bytes = get('/api/drip') + get('/api/large').repeat(30)
      return closing(await many(20 * part, () => connect(address, bytes)))
    },
  },
  {
    name: 'three HTTP/2 connections with window 0, 14 streams each',
    gateway: () => ({ server: { http2: true } }),
    begin: ({ address }, part) => unreadStreams(address, 3, 14 * part, '/api/large'),
  },
  {
    name: 'three HTTP/2 connections with window 0, 150 streams each',
    gateway: () => ({ server: { http2: { max_concurrent_streams: 150 } } }),
    begin: ({ address }, part) => unreadStreams(address, 3, 150 * part, '/api/large'),
  },
  {
    name: '400 requests that the backend does not answer',
    begin: async ({ address }, part) =>
      closing(await many(400 * part, () => connect(address, get('/api/never')))),
  },
  {
    name: '64 connections of forged tokens, beside new log-ins',
    gateway: ({ origin }) => ({
      consumers: [{ jwt: { issuer: ISSUER, audience: 'api', jwks_url: `${origin}/jwks` } }],
    }),
    headers: () => ({ authorization: `Bearer ${freshToken()}` }),
    begin: ({ address }, part) =>
      flood(address, 64 * part, 100, '/api/x', () => ({ authorization: `Bearer ${forgedToken()}` })),
  },
  {
    name: '60 new ids at once, with a tier source of 400 ms',
    gateway: ({ origin }, timeout) => ({
      tiers: ['free', 'paid'],
      consumers: [{ header: { name: 'x-user-id' } }],
      tier_sources: [{ http: { url: `${origin}/plans/{consumer}`, ttl: '1s', timeout } }],
    }),
    // A consumer that falls to the tier `free` is refused with its second request.
    limits: { free: '1/day', paid: 'unlimited' },
    headers: () => ({ 'x-user-id': payingId() }),
    begin: ({ address }, part) =>
      flood(address, 60 * part, 1, '/api/x', () => ({ 'x-user-id': `stranger-${stranger++}` })),
  },
  {
    name: '1,200 connections that say nothing',
    begin: async ({ address }, part) => closing(await many(1_200 * part, () => connect(address))),
  },
  {
    name: '900 clients that send a header byte by byte',
    begin: ({ address }, part) =>
      trickle(address, 900 * part, 'GET /api/x HTTP/1.1\r\nHost: a\r\nX-Slow: ', 'x'),
  },
]

/**
 * Returns the configuration of the attacked gateway, as JSON.
 *
 * @param ofService settings of the service besides its upstream
 * @param ofServer settings of the server, besides those that the attack needs
 * @param timeout timeout of a tier source
 */
export function configOf(
  { gateway = () => ({}), limits },
  backend,
  { ofService = { max_connections: 32 }, ofServer = {}, timeout = '500ms' } = {},
) {
  const { tiers = ['free'], server, ...more } = gateway(backend, timeout)
  const service = { upstreams: [backend.origin], ...ofService }
  return JSON.stringify({
    listen: '127.0.0.1:0',
    admin: { listen: '127.0.0.1:0' },
    tiers,
    services: { api: limits === undefined ? service : { ...service, limits } },
    routes: [{ path: '/api/*', service: 'api', websocket: true }],
    server: { ...ofServer, ...server },
    log: { access: 'off' },
    ...more,
  })
}

const PUBLIC = () => ({ keys: [{ ...keys().publicKey.export({ format: 'jwk' }), kid: KID, use: 'sig' }] })

/**
 * Starts a backend that answers at once, but for `/large` (without end), `/drip` (a byte now and then) and `/never`. It is a
 * source of tiers and keys, too.
 *
 * @param jwks what it publishes; by default the key of this thread
 */
export async function startBackend(jwks = PUBLIC()) {
  const block = Buffer.alloc(65_536)
  // 16 MB/s each: the attack is on the connections, not on the loopback.
  const endless = (res) => {
    const push = () => {
      if (!res.destroyed && res.write(block)) setTimeout(push, 4)
      else res.once('drain', push)
    }
    res.writeHead(200, { 'content-length': 2 ** 40 })
    push()
  }
  const drip = (res) => {
    res.writeHead(200)
    const timer = setInterval(() => res.write('x'), 100)
    res.on('close', () => clearInterval(timer))
  }
  const server = http.createServer({ keepAliveTimeout: 60_000 }, (req, res) => {
    const { url } = req
    res.on('error', () => {})
    req.on('error', () => {})
    req.resume()
    if (url.endsWith('/large')) endless(res)
    else if (url.endsWith('/drip')) drip(res)
    else if (url.endsWith('/jwks')) res.end(JSON.stringify(jwks))
    else if (url.startsWith('/plans/'))
      setTimeout(() => res.end(JSON.stringify({ tier: url.includes('paid') ? 'paid' : 'free' })), 400)
    else if (!url.endsWith('/never')) res.end('ok')
  })
  server.on('upgrade', (req, socket) => {
    const key = `${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
    const accept = createHash('sha1').update(key).digest('base64')
    socket.on('error', () => {})
    socket.on('end', () => socket.end())
    socket.resume()
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = () => {
    server.close()
    server.closeAllConnections()
  }
  return { origin: `http://127.0.0.1:${server.address().port}`, stop }
}

export { PUBLIC as publicKeys }

// In a thread of its own, so that neither the attack nor its victim delays the measuring code.
if (workerData?.part === 'backend')
  parentPort.postMessage({ origin: (await startBackend(workerData.jwks)).origin })
if (workerData?.part === 'attack') {
  await attacks[workerData.index].begin(workerData.gateway, 1)
  parentPort.postMessage('begun')
}
