// Tests src/credentials/body-digest.ts
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { signed } from '../../support/credentials/signing.js'
import { eventually } from '../../support/eventually.js'
import { problemOf, startSite } from '../../support/gateway/site.js'
import { http2Client } from '../../support/http/http2-client.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'

/** A signature that covers content-digest covers the body: another body never reaches its end. */

const SITE = `
tiers: [free]
consumers:
  - signature: { keys: [{ id: k1, secret: a-secret-of-the-partner, consumer: acme }], components: ["@method"] }
server: { http2: { enabled: true } }
services:
  payments: { upstreams: [PAYMENTS] }
  marketing: { upstreams: [MARKETING] }
routes:
  - { path: /*, service: payments }
  - { path: /copied, service: payments, mirror: { service: marketing } }
`

function digestOf(body: string, name = 'sha-256'): string {
  const digest = createHash(name.replace('-', '')).update(body, 'latin1').digest('base64')
  return `${name}=:${digest}:`
}

/** Flat list of headers: a signature over the digest. */
function fieldsFor(digest: string): readonly string[] {
  const lines = [
    ['@method', 'POST'],
    ['content-digest', digest],
  ] as const
  return ['Content-Digest', digest, ...signed(lines, { secret: 'a-secret-of-the-partner', keyid: 'k1' })]
}

function head(path: string, digest: string, framing: string): string {
  const fields = fieldsFor(digest)
  const lines = [`POST ${path} HTTP/1.1`, 'Host: gateway.example', framing]
  for (let i = 0; i < fields.length; i += 2) lines.push(`${fields[i]}: ${fields[i + 1]}`)
  return `${lines.join('\r\n')}\r\n\r\n`
}

const inOne = (path: string, digest: string, body: string) =>
  `${head(path, digest, `Content-Length: ${body.length}`)}${body}`

const chunked = (path: string, digest: string, pieces: readonly string[]) =>
  `${head(path, digest, 'Transfer-Encoding: chunked')}${pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`).join('')}0\r\n\r\n`

t.test('the signed body passes, however it is framed', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const long = 'x'.repeat(100_000)
  for (const [body, bytes] of [
    ['hello', inOne('/', digestOf('hello'), 'hello')],
    ['hello', inOne('/', digestOf('hello', 'sha-512'), 'hello')],
    ['hello', inOne('/', `md5=:AQ==:, ${digestOf('hello')}`, 'hello')],
    [long, inOne('/', digestOf(long), long)],
    ['hello', chunked('/', digestOf('hello'), ['he', 'l', 'lo'])],
    ['', chunked('/', digestOf(''), [])],
    ['', inOne('/', digestOf(''), '')],
  ] as const) {
    const { responses } = await rawExchange(gateway.port, bytes)
    t.equal(responses[0]!.status, 200, responses[0]!.body)
    t.match(payments.received.at(-1), { body, complete: true })
  }
})

t.test('another body never reaches its end, however it is cut', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const body = fc.stringMatching(/^[ -~]{0,40}$/)
  await fc.assert(
    fc.asyncProperty(
      body,
      body,
      fc.integer({ min: 1, max: 7 }),
      fc.boolean(),
      async (made, sent, size, whole) => {
        const pieces = sent.match(new RegExp(`.{1,${size}}`, 'g')) ?? []
        const bytes = whole ? inOne('/', digestOf(made), sent) : chunked('/', digestOf(made), pieces)
        const before = payments.received.length
        const { responses } = await rawExchange(gateway.port, bytes)
        const same = made === sent
        t.equal(responses[0]!.status, same ? 200 : 400)
        if (!same) t.equal(problemOf(responses[0]!).code, 'digest_mismatch')
        for (const one of payments.received.slice(before)) t.equal(one.complete, same)
      },
    ),
    {
      numRuns: 60,
      examples: [
        ['hello', 'hellO', 1, false],
        ['hello', '', 1, true],
        ['', 'x', 1, false],
      ],
    },
  )
  t.same(gateway.logged, [])
})

t.test("a long wrong body is cut before its end, and the upstream's connection survives", async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const body = 'x'.repeat(200_000)
  const connection = await openRaw(gateway.port)
  connection.socket.write(head('/', digestOf(`${body}y`), `Content-Length: ${body.length + 1}`))
  connection.socket.write(body)
  await eventually('most of it is there', () => (payments.received[0]?.body.length ?? 0) > 100_000)
  connection.socket.write('z')
  await eventually('it is recorded', () => gateway.records.length === 1)
  t.match(gateway.records, [{ status: 400, error: 'digest_mismatch', bytesIn: 200_001 }])
  t.equal(payments.received[0]!.complete, false)
  t.equal((await rawExchange(gateway.port, inOne('/', digestOf('a'), 'a'))).responses[0]!.status, 200)
})

t.test('a missing body is noticed, and a digest that cannot be checked is refused', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const gone = await rawExchange(gateway.port, head('/', digestOf('hello'), 'Content-Length: 0'))
  t.equal(problemOf(gone.responses[0]!).code, 'digest_mismatch')
  for (const digest of ['md5=:AQ==:', 'sha-256', 'sha-256=:AQ=:', '']) {
    const { responses } = await rawExchange(gateway.port, inOne('/', digest, 'hello'))
    t.match(problemOf(responses[0]!), { status: 400, code: 'bad_header' }, digest)
  }
  t.same(payments.received, [])
})

t.test('neither mirroring nor HTTP/2 bypasses the check', async (t) => {
  const { gateway, payments, marketing } = await startSite(t, SITE)
  const good = await rawExchange(gateway.port, inOne('/copied', digestOf('hello'), 'hello'))
  t.equal(good.responses[0]!.status, 200)
  await eventually('the copy is there', () => marketing.received[0]?.complete === true)
  const bad = await rawExchange(gateway.port, inOne('/copied', digestOf('hello'), 'hellO'))
  t.equal(bad.responses[0]!.status, 400)
  await eventually('both copies have their end', () => gateway.mirrored.length === 2)
  t.same(
    gateway.mirrored.map(([, result]) => result),
    ['answered', 'aborted'],
  )

  const http2 = await http2Client(t, gateway.origin)
  const ask = (body: string, digest: string) => {
    const fields = fieldsFor(digest)
    const headers: Record<string, string> = {}
    for (let i = 0; i < fields.length; i += 2) headers[fields[i]!.toLowerCase()] = fields[i + 1]!
    return http2.ask('/', headers, body)
  }
  t.equal((await ask('hello', digestOf('hello'))).status, 200)
  t.equal((await ask('hellO', digestOf('hello'))).status, 400)
  t.equal(payments.received.filter(({ body, complete }) => complete && body === 'hellO').length, 0)
})
