// Tests src/gateway/exchange/tls-info.ts src/gateway/identify/certificate.ts
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { openTls } from '../../../src/gateway/listen/tls.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'
import { createAuthority, type Issued, pairOf } from '../../support/credentials/authority.js'
import { eventually } from '../../support/eventually.js'
import { startSite } from '../../support/gateway/site.js'
import { type EntranceSite, openFrom, startEntrance } from '../../support/http/entrance.js'
import { proxyV2 } from '../../support/http/proxy-header.js'
import { openRaw, type RawConnection, rawExchange, rawOn, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { startChat } from '../../support/http/websocket.js'

/** Tests TLS to clients with real handshakes. All tests share certificates. */

const authority = createAuthority(t)
const api = authority.issue('api', 'DNS:api.example,DNS:*.apps.example')
const shop = authority.issue('shop', 'DNS:shop.example,DNS:api.example')
const strangers = createAuthority(t)
const stranger = strangers.issue('acme', 'DNS:acme.internal')
const acme = authority.issue(
  'acme',
  'DNS:acme.internal,DNS:second.internal,URI:spiffe://example/acme,email:ops@acme.example',
)
const nameless = authority.issue('nameless')
const expired = authority.issue('acme', 'DNS:acme.internal', 0)

const SITE = `
tiers: [free]
services: { payments: { upstreams: [PAYMENTS] }, marketing: { upstreams: [MARKETING] } }
routes:
  - { path: /payments/*, service: payments, websocket: true }
  - { path: /marketing/*, service: marketing }
`
const certificates = (...list: Issued[]) => `certificates: ${JSON.stringify(list)}`
const secure = (...keys: string[]) => `${SITE}server: { tls: { ${keys.join(', ')} } }\n`
const REQUEST = rawRequest('GET /payments/1')

interface Handshaken {
  readonly socket: TLSSocket
  readonly connection: RawConnection
  /** Common name of the server's certificate. */
  readonly subject: string
}

async function handshake(port: number, options: ConnectionOptions = {}): Promise<Handshaken> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    servername: 'api.example',
    rejectUnauthorized: false,
    ...options,
  })
  const connection = rawOn(socket)
  await Promise.race([
    once(socket, 'secureConnect'),
    once(socket, 'close').then(() => Promise.reject(new Error('closed in the handshake'))),
  ])
  return { socket, connection, subject: socket.getPeerX509Certificate()?.subject.replace(/^CN=/, '') ?? '' }
}

async function ask({ connection, socket }: Handshaken, request = REQUEST): Promise<number> {
  const before = connection.responses().length
  socket.write(request)
  await connection.until('response', () => connection.responses().length > before)
  return connection.responses().at(-1)!.status
}

/** Returns the record of that number, which comes a moment after the response. */
async function recordOf({ gateway }: EntranceSite, count: number): Promise<RequestRecord> {
  await gateway.recorded(count)
  return gateway.records[count - 1]!
}

/** In TLS 1.3 a client learns only afterwards that its certificate was refused. */
async function isRefused(port: number, options: ConnectionOptions): Promise<boolean> {
  const { connection, socket } = await handshake(port, options).catch(() => ({
    connection: undefined,
    socket: undefined,
  }))
  if (connection === undefined) return true
  socket.write(REQUEST)
  await connection.closed()
  return connection.received() === ''
}

t.test('the certificate is chosen by the name that the client asks for', async (t) => {
  const { gateway } = await startEntrance(t, secure(certificates(api, shop)))
  const names: [name: string, subject: string][] = [
    ['api.example', 'api'],
    ['API.Example', 'api'],
    ['shop.example', 'shop'],
    ['one.apps.example', 'api'],
    ['unknown.example', 'api'],
    ['two.one.apps.example', 'api'],
    ['', 'api'],
  ]
  const other = await startEntrance(t, secure(certificates(shop, api)))
  for (const [servername, expected] of names) {
    const made = await handshake(gateway.port, { servername })
    t.equal(made.subject, expected, servername)
    t.equal(await ask(made), 200, servername)
    made.socket.destroy()
  }
  for (const [servername, expected] of [
    ['api.example', 'shop'],
    ['one.apps.example', 'api'],
    ['two.one.apps.example', 'shop'],
    ['apps.example', 'shop'],
    ['', 'shop'],
  ] as const) {
    const made = await handshake(other.gateway.port, { servername })
    t.equal(made.subject, expected, `${servername}, the other first`)
    made.socket.destroy()
  }
})

t.test('TLS below 1.2 or the configured version is refused; 1.2 always has forward secrecy', async (t) => {
  const { gateway, counts } = await startEntrance(t, secure(certificates(api)))
  const strict = await startEntrance(t, secure(certificates(api), 'min_version: TLSv1.3'))
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
  await t.rejects(handshake(gateway.port, old))
  const second = { maxVersion: 'TLSv1.2' } as const
  await t.rejects(handshake(gateway.port, { ...second, ciphers: 'ECDHE-ECDSA-AES128-SHA' }))
  await eventually('both are counted', () => counts.rejected.tls === 2)
  const made = await handshake(gateway.port, second)
  t.equal(await ask(made), 200)
  t.match(made.socket.getCipher(), { version: 'TLSv1.2', name: /^ECDHE-.*(?:GCM|POLY1305)/ })
  await t.rejects(handshake(strict.gateway.port, second))
  const third = await handshake(strict.gateway.port)
  t.equal(third.socket.getProtocol(), 'TLSv1.3')
  for (const { socket } of [made, third]) socket.destroy()
})

t.test('the upstream learns that the client used https, unless a trusted proxy says otherwise', async (t) => {
  const trusted = `${secure(certificates(api))}trusted_proxies: [127.0.0.2]\n`
  const { gateway, payments } = await startEntrance(t, trusted)
  const request = rawRequest('GET /payments/1', 'X-Forwarded-Proto: http')
  const made = await handshake(gateway.port)
  t.equal(await ask(made, request), 200)
  const raw = await openFrom('127.0.0.2', gateway.port)
  const socket = connect({ socket: raw.socket, rejectUnauthorized: false })
  const proxied = { socket, connection: rawOn(socket), subject: '' }
  t.equal(await ask(proxied, request), 200)
  t.same(
    payments.received.map((one) => one.values('x-forwarded-proto')),
    [['https'], ['http']],
  )
  for (const { socket } of [made, proxied]) socket.destroy()
})

t.test('bodies pass TLS unchanged, and pipelined requests are answered in order', async (t) => {
  const echo = await recordingUpstream(t, (req, res, received) => {
    req.on('end', () => res.end(received.body === '' ? req.url : Buffer.from(received.body, 'latin1')))
  })
  const site = await startEntrance(t, secure(certificates(api)).replaceAll('PAYMENTS', echo.origin))
  const made = await handshake(site.gateway.port)
  const body = 'x'.repeat(1_000_000)
  t.equal(await ask(made, `${rawRequest('POST /payments/1', `Content-Length: ${body.length}`)}${body}`), 200)
  t.equal(made.connection.responses()[0]!.body, body)
  made.socket.write(['a', 'b', 'c'].map((name) => rawRequest(`GET /payments/${name}`)).join(''))
  await made.connection.until('three responses', () => made.connection.responses().length === 4)
  t.same(
    made.connection
      .responses()
      .slice(1)
      .map((response) => response.body),
    ['/payments/a', '/payments/b', '/payments/c'],
  )
  made.socket.destroy()
})

t.test('a WebSocket works over TLS', async (t) => {
  const chat = await startChat(t)
  const site = await startEntrance(t, secure(certificates(api)).replaceAll('PAYMENTS', chat.origin))
  const socket = new WebSocket(`wss://127.0.0.1:${site.gateway.port}/payments/chat`, {
    rejectUnauthorized: false,
  })
  await once(socket, 'open')
  socket.send('hello')
  const [data] = await once(socket, 'message')
  t.equal(String(data), 'hello')
  t.equal(chat.handshakes[0]!.headers['x-forwarded-proto'], 'https')
  socket.close()
  await site.gateway.recorded(1)
  t.match(site.gateway.records, [{ status: 101 }])
})

t.test(
  'plain HTTP, garbage, silence and a half handshake on the TLS port are closed, and counted',
  async (t) => {
    const site = await startEntrance(t, secure(certificates(api), 'handshake_timeout: 1s'))
    for (const bytes of [REQUEST, '\0'.repeat(2_000), '', '\x16\x03\x01\x02\x00\x01']) {
      const connection = await openRaw(site.gateway.port)
      connection.write(bytes)
      await connection.closed()
      t.notMatch(connection.received(), 'HTTP/1.1', JSON.stringify(bytes.slice(0, 10)))
    }
    await eventually('all are counted', () => site.counts.rejected.tls === 4)
    const gone = await openRaw(site.gateway.port)
    gone.write('\x16\x03\x01')
    gone.socket.destroy()
    await eventually('the one that left is counted', () => site.counts.rejected.tls === 5)
    await eventually('nothing is left', () => site.counts.open === 0)
    t.equal(site.gateway.records.length, 0)
    const made = await handshake(site.gateway.port)
    t.equal(await ask(made), 200)
    made.socket.destroy()
  },
)

t.test('silent connections do not delay a drain, however far their handshake has come', async (t) => {
  const site = await startEntrance(t, secure(certificates(api)))
  const silent = await openRaw(site.gateway.port)
  const half = await openRaw(site.gateway.port)
  half.write('\x16\x03\x01')
  const made = await handshake(site.gateway.port)
  await eventually('all are there', () => site.counts.open === 3)
  await site.gateway.app.close()
  for (const connection of [silent, half, made.connection]) await connection.closed()
  await eventually('none is left', () => site.counts.open === 0)
  t.equal(site.received(), 0)
})

t.test('the late end of a handshake does not end that of the next connection from its port', async (t) => {
  const tls = await openTls({
    settings: { certificates: [api], min_version: 'TLSv1.2', handshake_timeout: 10_000 },
    alpn: ['http/1.1'],
    log: { info() {}, warn() {}, error() {} },
  })
  t.teardown(tls.close)
  const sockets: Socket[] = []
  const server = createServer((socket) => void sockets.push(socket.on('error', () => {})))
  server.listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const left = connectTcp(port, '127.0.0.1')
  await eventually('the first connection', () => sockets.length === 1)
  const client = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  client.on('error', () => {})
  t.teardown(() => client.destroy())
  await eventually('the second connection', () => sockets.length === 2)
  const [earlier, later] = sockets as [Socket, Socket]
  // The system has given the port of the first connection to the second; the end of the first is not noticed yet.
  Object.defineProperty(earlier, 'remotePort', { value: later.remotePort })
  const failures: string[] = []
  tls.secure(
    earlier,
    () => t.fail('has no handshake'),
    (why) => void failures.push(why),
  )
  const outcome = new Promise<string>((resolve) => tls.secure(later, () => resolve('secured'), resolve))
  left.destroy()
  await once(earlier, 'close')
  t.equal(await outcome, 'secured')
  t.equal(failures.length, 1)
})

t.test('a TLS handshake on the plain port gets 400', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const { responses, closed } = await rawExchange(
    gateway.port,
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  )
  t.match(responses, [{ status: 400 }])
  t.ok(closed)
})

t.test('ALPN agrees on http/1.1 only', async (t) => {
  const { gateway } = await startEntrance(t, secure(certificates(api)))
  const made = await handshake(gateway.port, { ALPNProtocols: ['h2', 'http/1.1'] })
  t.equal(made.socket.alpnProtocol, 'http/1.1')
  t.equal(await ask(made), 200)
  made.socket.destroy()
  await t.rejects(handshake(gateway.port, { ALPNProtocols: ['h2'] }))
})

t.test('a PROXY header comes before the handshake, and names the client', async (t) => {
  const yaml = secure(certificates(api)).replace('server: {', 'server: { proxy_protocol: true,')
  const site = await startEntrance(t, `${yaml}trusted_proxies: [127.0.0.1]\n`)
  for (const client of ['192.0.2.44', '2001:db8::44']) {
    const raw = await openRaw(site.gateway.port)
    // The beginning of the handshake comes in the same packet.
    raw.socket.cork()
    raw.socket.write(proxyV2(client, 7))
    const socket = connect({ socket: raw.socket, rejectUnauthorized: false })
    process.nextTick(() => raw.socket.uncork())
    const made = { socket, connection: rawOn(socket), subject: '' }
    t.equal(await ask(made), 200)
    t.same(site.payments.received.at(-1)!.values('x-forwarded-for'), [client])
    t.same(site.payments.received.at(-1)!.values('x-forwarded-proto'), ['https'])
    t.equal((await recordOf(site, site.received())).clientIp, client)
    socket.destroy()
  }
})

t.test('with required client certificates, only one of the right CA gets in', async (t) => {
  const site = await startEntrance(
    t,
    `${secure(certificates(api), `client_ca: ${authority.ca}`)}consumers: [{ client_certificate: {} }]\n`,
  )
  const { port } = site.gateway
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    t.ok(await isRefused(port, { maxVersion }), `${maxVersion}: none`)
    t.ok(await isRefused(port, { maxVersion, ...pairOf(stranger) }), `${maxVersion}: of another CA`)
    t.ok(await isRefused(port, { maxVersion, ...pairOf(expired) }), `${maxVersion}: expired`)
    const made = await handshake(port, { maxVersion, ...pairOf(acme) })
    t.equal(await ask(made), 200, maxVersion)
    t.match(await recordOf(site, site.received()), { consumer: 'acme' })
    made.socket.destroy()
  }
  t.equal(site.received(), 2)
  t.equal(site.counts.rejected.tls, 6)
})

t.test('a session that began without a certificate does not bypass a required one', async (t) => {
  const optional = `${secure(certificates(api), `client_ca: ${authority.ca}`, 'client_certificate: optional')}`
  const site = await startEntrance(t, `${optional}consumers: [{ client_certificate: {} }, { ip: {} }]\n`)
  const first = await handshake(site.gateway.port, {})
  const sessions: Buffer[] = []
  first.socket.on('session', (session) => sessions.push(session))
  t.equal(await ask(first), 200)
  await eventually('there is a session', () => sessions.length > 0)
  const again = await handshake(site.gateway.port, { session: sessions.at(-1)! })
  t.equal(await ask(again), 200)
  t.ok(again.socket.isSessionReused())
  t.match(await recordOf(site, 2), { consumer: '127.0.0.1' }, 'identified by nothing but its address')
  for (const { socket } of [first, again]) socket.destroy()

  const required = await startEntrance(t, secure(certificates(api), `client_ca: ${authority.ca}`))
  const tickets: Buffer[] = []
  const socket = connect({ port: required.gateway.port, host: '127.0.0.1', rejectUnauthorized: false })
  socket.on('session', (session) => tickets.push(session)).on('error', () => {})
  await new Promise((resolve) => socket.once('close', resolve))
  for (const session of tickets) t.ok(await isRefused(required.gateway.port, { session }))
  t.equal(required.received(), 0)
})

t.test('an optional client certificate identifies if valid, and is 401 if not', async (t) => {
  const yaml = secure(certificates(api), `client_ca: ${authority.ca}`, 'client_certificate: optional')
  const site = await startEntrance(t, `${yaml}consumers: [{ client_certificate: {} }, { ip: {} }]\n`)
  const cases: [what: string, options: ConnectionOptions, status: number, consumer: string | undefined][] = [
    ['none', {}, 200, '127.0.0.1'],
    ['good', pairOf(acme), 200, 'acme'],
    ['of another CA', pairOf(stranger), 401, undefined],
    ['expired', pairOf(expired), 401, undefined],
  ]
  for (const [i, [what, options, status, consumer]] of cases.entries()) {
    const made = await handshake(site.gateway.port, options)
    t.equal(await ask(made), status, what)
    t.equal((await recordOf(site, i + 1)).consumer, consumer, what)
    made.socket.destroy()
  }
})

t.test('the configured part of a client certificate identifies its consumer', async (t) => {
  const yaml = secure(certificates(api), `client_ca: ${authority.ca}`)
  const site = await startEntrance(t, `${yaml}consumers: [{ client_certificate: { id: subject_cn } }]\n`)
  const made = await handshake(site.gateway.port, pairOf(acme))
  const bare = await handshake(site.gateway.port, pairOf(nameless))
  let asked = 0
  const fingerprint = made.socket.getX509Certificate()!.fingerprint256.replaceAll(':', '').toLowerCase()
  for (const [id, consumer] of [
    ['subject_cn', 'acme'],
    ['san_dns', 'acme.internal'],
    ['san_uri', 'spiffe://example/acme'],
    ['san_email', 'ops@acme.example'],
    ['fingerprint', fingerprint],
  ] as const) {
    site.gateway.use(
      `${yaml}consumers: [{ client_certificate: { id: ${id} } }]\n`
        .replaceAll('PAYMENTS', site.payments.origin)
        .replaceAll('MARKETING', site.marketing.origin),
    )
    t.equal(await ask(made), 200, id)
    t.equal((await recordOf(site, ++asked)).consumer, consumer, id)
    asked++
    const has = id === 'subject_cn' || id === 'fingerprint'
    t.equal(await ask(bare), has ? 200 : 401, `${id} of one without names`)
  }
  for (const { socket } of [made, bare]) socket.destroy()
})

/** Makes a folder with the pair `a`, and the given files by name. */
function folderWith(t: Test, { cert, key }: Issued) {
  const folder = t.testdir()
  const pair = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') }
  copyFileSync(cert, pair.cert)
  copyFileSync(key, pair.key)
  return { folder, pair }
}

t.test('renewed certificates are served without a dropped connection', async (t) => {
  const { pair } = folderWith(t, api)
  const results: string[] = []
  const site = await startEntrance(t, secure(certificates(pair)), {
    onReload: (result) => results.push(result),
  })
  const before = await handshake(site.gateway.port)
  t.equal(await ask(before), 200)
  copyFileSync(shop.cert, pair.cert)
  copyFileSync(shop.key, pair.key)
  await eventually('they are read', () => results.includes('applied'))
  const after = await handshake(site.gateway.port)
  t.equal(after.subject, 'shop')
  t.equal(await ask(after), 200)
  t.equal(await ask(before), 200, 'the old connection goes on')
  t.equal(await site.tls!.reload(), 'unchanged')
  for (const { socket } of [before, after]) socket.destroy()
})

t.test('a certificate that does not fit its key, or is malformed, changes only the log', async (t) => {
  const { pair } = folderWith(t, api)
  const results: string[] = []
  const site = await startEntrance(t, secure(certificates(pair)), {
    onReload: (result) => results.push(result),
    // This test asks for each reload itself.
    pollMs: 60_000,
    stableMs: 60_000,
  })
  const broken: [what: string, write: () => void, message: RegExp][] = [
    [
      'another certificate',
      () => copyFileSync(shop.cert, pair.cert),
      /tls\.key is not the key of .*tls\.crt/,
    ],
    [
      'half a file',
      () => writeFileSync(pair.cert, readFileSync(shop.cert).subarray(0, 200)),
      /contains no certificate/,
    ],
    ['an empty file', () => writeFileSync(pair.cert, ''), /contains no certificate in PEM/],
    [
      'no file',
      () => renameSync(pair.cert, `${pair.cert}.old`),
      /tls\.crt does not exist; put the file there/,
    ],
  ]
  for (const [what, write, message] of broken) {
    write()
    t.equal(await site.tls!.reload(), 'rejected', what)
    const made = await handshake(site.gateway.port)
    t.equal(made.subject, 'api', what)
    t.equal(await ask(made), 200, what)
    made.socket.destroy()
    t.match(site.lines.at(-1), {
      level: 'error',
      fields: { messages: [message] },
      message: /the last good ones stay/,
    })
  }
  t.equal(site.lines.filter(({ level }) => level === 'error').length, broken.length, 'a line each')
  copyFileSync(shop.cert, pair.cert)
  copyFileSync(shop.key, pair.key)
  t.equal(await site.tls!.reload(), 'applied')
  t.same(results, [...broken.map(() => 'rejected'), 'applied'])
})

t.test('an expired certificate never replaces a good one at run time', async (t) => {
  const { pair } = folderWith(t, api)
  let now = Date.now()
  const site = await startEntrance(t, secure(certificates(pair)), {
    now: () => now,
    pollMs: 60_000,
    stableMs: 60_000,
  })
  const served = async () => {
    const made = await handshake(site.gateway.port)
    made.socket.destroy()
    return made.subject
  }
  const old = authority.issue('old', 'DNS:api.example', 1)
  const put = ({ cert, key }: Issued) => {
    copyFileSync(cert, pair.cert)
    copyFileSync(key, pair.key)
  }
  // Issued for two days, and for one.
  now += 1.5 * 86_400_000
  put(old)
  t.equal(await site.tls!.reload(), 'rejected')
  t.equal(await served(), 'api')
  t.match(site.lines.at(-1), {
    level: 'error',
    fields: { messages: [/tls\.crt expired on .*; renew the certificate/] },
    message: /the last good ones stay/,
  })
  // Replacing it loses nothing once the current one has expired, too.
  now += 86_400_000
  t.equal(await site.tls!.reload(), 'applied')
  t.equal(await served(), 'old')
})

t.test('certificates of a Kubernetes secret are renewed by the swap of its ..data link', async (t) => {
  const folder = t.testdir()
  const put = (name: string, { cert, key }: Issued) => {
    mkdirSync(join(folder, name))
    copyFileSync(cert, join(folder, name, 'tls.crt'))
    copyFileSync(key, join(folder, name, 'tls.key'))
  }
  put('..1', api)
  symlinkSync('..1', join(folder, '..data'))
  for (const name of ['tls.crt', 'tls.key']) symlinkSync(`..data/${name}`, join(folder, name))
  const pair = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') }
  const results: string[] = []
  const site = await startEntrance(t, secure(certificates(pair)), {
    onReload: (result) => results.push(result),
  })
  put('..2', shop)
  symlinkSync('..2', join(folder, '..data_tmp'))
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
  await eventually('it is read', () => results.includes('applied'))
  t.notOk(results.includes('rejected'))
  const made = await handshake(site.gateway.port)
  t.equal(made.subject, 'shop')
  made.socket.destroy()
})

t.test('other settings and files of server.tls take effect at run time', async (t) => {
  const site = await startEntrance(t, secure(certificates(api)))
  const settings = site.gateway.snapshot().config.server.tls!
  t.equal(
    await site.tls!.reload({
      ...settings,
      certificates: [shop],
      min_version: 'TLSv1.3',
      client_ca: authority.ca,
      client_certificate: 'required',
    }),
    'applied',
  )
  t.ok(await isRefused(site.gateway.port, {}))
  await t.rejects(handshake(site.gateway.port, { maxVersion: 'TLSv1.2', ...pairOf(acme) }))
  const made = await handshake(site.gateway.port, pairOf(acme))
  const sessions: Buffer[] = []
  made.socket.on('session', (session) => sessions.push(session))
  t.equal(made.subject, 'shop')
  t.equal(await ask(made), 200)
  await eventually('there is a session', () => sessions.length > 0)
  await site.tls!.reload({ ...settings, client_ca: strangers.ca })
  for (const session of sessions) {
    t.ok(await isRefused(site.gateway.port, { session, ...pairOf(acme) }), 'a session outlives no CA')
  }
  t.equal(await ask(made), 200, 'the open connection goes on')
  made.socket.destroy()
})

t.test('the log warns fourteen days before a certificate expires, and when it has', async (t) => {
  const lasting = authority.issue('lasting', 'DNS:lasting.example', 40)
  const expiry = startEntrance(t, secure(certificates(lasting)))
  const { notAfter } = (await expiry).tls!.expiries()[0]!
  const day = 86_400_000
  for (const [left, expected] of [
    [15 * day, undefined],
    [
      13.5 * day,
      { level: 'warn', fields: { certificate: lasting.cert }, message: /expires in 13 days; renew it/ },
    ],
    [-1, { level: 'error', message: /expired on .*; renew the certificate/ }],
  ] as const) {
    const { lines } = await startEntrance(t, secure(certificates(lasting)), { now: () => notAfter - left })
    if (expected === undefined) t.same(lines, [])
    else t.match(lines, [expected])
  }
})
