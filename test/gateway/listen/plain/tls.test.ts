// Tests src/gateway/listen/plain/connections.ts src/gateway/listen/tls.ts
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { createAuthority } from '../../../support/credentials/authority.js'
import { openTlsClient } from '../../../support/http/faces.js'
import { http2Client } from '../../../support/http/http2-client.js'
import { rawRequest } from '../../../support/http/raw.js'
import { checkSame, plans, startPairs, startTls } from '../../../support/http/reader-pairs.js'

/** Tests TLS connections that the gateway reads itself: what they read is what Node reads, and TLS stays as strict. */

const certificate = createAuthority(t).issue('api', 'DNS:api.example')
const GET = rawRequest('GET /x')
const run = promisify(execFile)

t.test('both readers forward and answer the same, however TLS cuts the bytes', async (t) => {
  const pairs = await startPairs(t, 10)
  const batch = fc.array(plans, { minLength: pairs.length, maxLength: pairs.length })
  const check = fc.asyncProperty(batch, async (list) => {
    await Promise.all(list.map((plan, i) => checkSame(pairs[i]!, plan)))
  })
  await fc.assert(check, { numRuns: 10, endOnFailure: true })
  const own = pairs.reduce((sum, { plain }) => sum + plain.gateway.records.length - plain.readByNode(), 0)
  t.ok(own > 15, `${own} were read here`)
})

t.test('the protocol that ALPN agreed on decides who reads', async (t) => {
  const site = await startTls(t, certificate, 'http2: true', ['h2', 'http/1.1'])
  for (const ALPNProtocols of [undefined, ['http/1.1']]) {
    const client = await openTlsClient(site.port, false, ALPNProtocols && { ALPNProtocols })
    client.write(GET)
    await client.until('an answer', () => client.responses().length === 1)
    client.write(GET.replace('Host: ', 'Host:  '))
    await client.until('another', () => client.responses().length === 2)
    client.socket.destroy()
  }
  t.equal(site.readByNode(), 2)
  const h2 = await http2Client(t, `https://127.0.0.1:${site.port}`, { rejectUnauthorized: false })
  t.equal((await h2.ask('/x')).status, 200)
  t.equal(site.readByNode(), 2)
  await site.gateway.recorded(5)
})

t.test('a connection on the plain path cannot be negotiated anew', async (t) => {
  const { port, gateway } = await startTls(t, certificate)
  const client = await openTlsClient(port, false, { maxVersion: 'TLSv1.2' })
  client.write(GET)
  await client.until('an answer', () => client.responses().length === 1)
  const refused = await new Promise<Error | null>((resolve) => {
    client.socket.once('error', resolve)
    ;(client.socket as TLSSocket).renegotiate({}, resolve)
  })
  t.match(refused, { code: 'ERR_SSL_NO_RENEGOTIATION' })
  client.socket.destroy()
  t.equal(gateway.records.length, 1)
})

t.test('a resumed session takes the plain path, and no early data is offered', async (t) => {
  const { port, readByNode } = await startTls(t, certificate)
  const first = await openTlsClient(port, false)
  const session = once(first.socket, 'session')
  first.write(GET)
  await first.until('an answer', () => first.responses().length === 1)
  const [ticket] = (await session) as [Buffer]
  first.socket.destroy()
  const again = await openTlsClient(port, false, { session: ticket })
  again.write(GET)
  await again.until('an answer', () => again.responses().length === 1)
  t.ok((again.socket as TLSSocket).isSessionReused())
  t.equal(readByNode(), 0)
  again.socket.destroy()
  // Node's client knows nothing of early data; openssl prints how much of it a ticket allows.
  const asked = run('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-tls1_3', '-ign_eof'])
  asked.child.stdin?.write(`${GET.replace('Host', 'Connection: close\r\nHost')}`)
  const { stdout } = await asked
  t.match(stdout, /Max Early Data: 0\n/)
  t.match(stdout, /HTTP\/1\.1 200/)
})

t.test('a small response is one TLS record, and a close_notify follows the last one', async (t) => {
  const { port } = await startTls(t, certificate, 'max_requests_per_connection: 3')
  let records = 0
  let pending = Buffer.alloc(0)
  const relay = createServer((socket) => {
    const bare = connectTcp(port, '127.0.0.1')
    bare.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk])
      for (let end = 0; pending.length >= 5; pending = pending.subarray(end)) {
        end = 5 + pending.readUInt16BE(3)
        if (pending.length < end) break
        records++
      }
    })
    bare.on('close', () => socket.end(() => socket.destroy()))
    socket.pipe(bare).pipe(socket, { end: false })
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  t.teardown(() => relay.close())
  const client = await openTlsClient((relay.address() as AddressInfo).port, false)
  const counts: number[] = []
  for (let i = 1; i <= 3; i++) {
    records = 0
    client.write(GET)
    await client.until('an answer', () => client.responses().length === i)
    if (i === 3) await client.closed()
    counts.push(records)
  }
  // The first may come together with the session tickets.
  t.same(counts.slice(1), [1, 2])
})
