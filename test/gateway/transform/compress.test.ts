// Tests src/gateway/transform/compressed-body.ts
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import * as zlib from 'node:zlib'
import t, { type Test } from 'tap'
import { negotiated } from '../../../src/gateway/transform/content-encoding.js'
import { eventually } from '../../support/eventually.js'
import { startSite } from '../../support/gateway/site.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

const SITE = `
tiers: [free]
services:
  payments: { upstreams: [PAYMENTS], max_connections: 300 }
  marketing: { upstreams: [MARKETING] }
routes:
  - { path: /*, service: payments, compress: true }
  - { path: /plain/*, service: payments }
  - { path: /br/*, service: payments, compress: { encodings: [br], types: [application/x-own, text/event-stream], min_size: 10 } }
`
const TEXT = JSON.stringify(Array.from({ length: 500 }, (_, id) => ({ id, name: `user ${id}` })))
const hasZstd = 'createZstdCompress' in zlib

const DECODE: Record<string, (bytes: Buffer) => Buffer> = {
  gzip: zlib.gunzipSync,
  br: zlib.brotliDecompressSync,
  zstd: (bytes) => (zlib as unknown as { zstdDecompressSync(b: Buffer): Buffer }).zstdDecompressSync(bytes),
}

type Handler = (req: IncomingMessage, res: ServerResponse) => void

/** Starts a site whose upstream answers as told; `ask` returns the response with its body decoded. */
async function site(t: Test, handler: Handler = (_, res) => json(res)) {
  const payments = await recordingUpstream(t, handler)
  const started = await startSite(t, SITE, { payments, marketing: payments })
  const ask = async (target: string, accepted: string | undefined, ...fields: readonly string[]) => {
    const accept = accepted === undefined ? [] : [`Accept-Encoding: ${accepted}`]
    const bytes = rawRequest(`GET ${target}`, ...accept, ...fields)
    const response = (await rawExchange(started.gateway.port, bytes)).responses[0]!
    const coding = response.header('content-encoding')
    const sent = Buffer.from(response.body, 'latin1')
    const text = (
      coding === undefined || DECODE[coding] === undefined ? sent : DECODE[coding](sent)
    ).toString()
    return { header: response.header, status: response.status, coding, text, size: sent.length }
  }
  return { ...started, payments, ask }
}

function json(res: ServerResponse, fields: Record<string, string> = {}, body: string | Buffer = TEXT): void {
  res.writeHead(200, { 'Content-Type': 'application/json; charset=utf-8', ...fields })
  res.end(body)
}

t.test("the client's most preferred coding is used", async (t) => {
  const all = ['zstd', 'br', 'gzip'] as const
  for (const [accepted, expected] of [
    ['gzip, deflate, br', 'br'],
    ['gzip, deflate, br, zstd', 'zstd'],
    ['gzip;q=1.0, br;q=0.5', 'gzip'],
    ['GZIP ; Q=0.8', 'gzip'],
    ['x-gzip', 'gzip'],
    ['*', 'zstd'],
    ['*;q=0', undefined],
    ['zstd;q=0, *', 'br'],
    ['gzip;q=0', undefined],
    ['gzip;q=0.5, identity', undefined],
    ['identity;q=0, gzip;q=0.1', 'gzip'],
    ['identity;q=0', undefined],
    ['identity;q=0.5, *;q=0.5', 'zstd'],
    ['gzip;q=2', undefined],
    ['gzip;q=x', undefined],
    ['gzip;q=0.1234', undefined],
    ['deflate', undefined],
    ['', undefined],
    [',,;,gzip', 'gzip'],
    [`gzip,${'x,'.repeat(1000)}`, undefined],
  ] as const) {
    t.equal(negotiated(accepted, all), expected, accepted.slice(0, 40))
  }
  t.equal(negotiated('br, zstd', ['gzip']), undefined)
})

t.test('a response is compressed as the client asks, and says so', async (t) => {
  const { ask, gateway } = await site(t, (_, res) =>
    json(res, {
      ETag: '"v1"',
      'Cache-Control': 'public, max-age=60',
      'Last-Modified': 'Tue, 24 Nov 2026 10:00:00 GMT',
      'Accept-Ranges': 'bytes',
      'Content-Length': String(TEXT.length),
    }),
  )
  for (const coding of hasZstd ? ['gzip', 'br', 'zstd'] : ['gzip', 'br']) {
    const answer = await ask('/a', coding)
    t.equal(answer.coding, coding)
    t.equal(answer.text, TEXT)
    t.ok(answer.size < TEXT.length / 3, `${answer.size} of ${TEXT.length} bytes`)
    t.equal(answer.header('vary'), 'Accept-Encoding')
    t.equal(answer.header('etag'), 'W/"v1"', 'strong no more')
    t.equal(answer.header('content-length'), undefined)
    t.equal(answer.header('accept-ranges'), undefined)
    t.equal(answer.header('cache-control'), 'public, max-age=60', 'Cache-Control stays as it is')
    t.equal(answer.header('last-modified'), 'Tue, 24 Nov 2026 10:00:00 GMT')
    await gateway.recorded(gateway.records.length)
    t.equal(gateway.records.at(-1)!.bytesOut, answer.size, 'the record has the bytes that went out')
  }
  if (!hasZstd)
    t.equal((await ask('/a', 'zstd')).coding, undefined, 'zstd is passed over where Node has none')
})

t.test('a client that accepts no coding gets the body unchanged, with Vary for caches', async (t) => {
  const { ask } = await site(t)
  for (const accepted of [undefined, 'identity', 'gzip;q=0']) {
    const answer = await ask('/a', accepted)
    t.match(answer, { coding: undefined, text: TEXT })
    t.equal(answer.header('vary'), 'Accept-Encoding')
  }
  const elsewhere = await ask('/plain/a', 'gzip')
  t.match(elsewhere, { coding: undefined, text: TEXT })
  t.equal(elsewhere.header('vary'), undefined)
})

t.test('a response that gains nothing, or must not change, is not compressed', async (t) => {
  const cases: Record<string, Handler> = {
    encoded: (_, res) => json(res, { 'Content-Encoding': 'gzip', ETag: '"v1"' }, zlib.gzipSync(TEXT)),
    image: (_, res) => json(res, { 'Content-Type': 'image/png' }),
    untyped: (_, res) => void res.end(TEXT),
    small: (_, res) => json(res, { 'Content-Length': '7' }, '{"a":1}'),
    kept: (_, res) => json(res, { 'Cache-Control': 'public, no-transform', ETag: '"v1"' }),
    events: (_, res) => json(res, { 'Content-Type': 'text/event-stream' }),
    part: (_, res) => {
      res.writeHead(206, { 'Content-Type': 'application/json', 'Content-Range': 'bytes 0-4999/20000' })
      res.end(TEXT.slice(0, 5000))
    },
    none: (_, res) => void res.writeHead(204, { 'Content-Type': 'application/json' }).end(),
    same: (_, res) => void res.writeHead(304, { ETag: '"v1"' }).end(),
  }
  const { ask, gateway } = await site(t, (req, res) => cases[req.url!.slice(1)]!(req, res))
  for (const name of Object.keys(cases)) {
    const answer = await ask(`/${name}`, 'gzip, br')
    t.equal(answer.coding, name === 'encoded' ? 'gzip' : undefined, name)
    t.equal(answer.header('vary'), undefined, name)
    if (['encoded', 'kept', 'same'].includes(name)) t.equal(answer.header('etag'), '"v1"', name)
  }
  t.equal((await ask('/encoded', undefined)).text, TEXT)
  cases.a = (_, res) => json(res)
  t.equal((await ask('/a', 'gzip', 'Cache-Control: no-transform')).coding, undefined, 'as the client wishes')
  const head = await rawExchange(gateway.port, rawRequest('HEAD /a', 'Accept-Encoding: gzip'), { head: true })
  t.equal(head.responses[0]!.header('content-encoding'), undefined)
})

t.test('a route configures codings, types and the minimum size', async (t) => {
  const { ask } = await site(t, (req, res) =>
    json(
      res,
      { 'Content-Type': req.url!.endsWith('own') ? 'Application/X-Own' : 'application/json' },
      'x'.repeat(10),
    ),
  )
  t.equal((await ask('/br/own', 'gzip, br')).coding, 'br')
  t.equal((await ask('/br/own', 'gzip')).coding, undefined)
  t.equal((await ask('/br/json', 'br')).coding, undefined)
})

t.test('compressed bytes are flushed while the upstream is silent', async (t) => {
  const open: ServerResponse[] = []
  const { gateway } = await site(t, (_, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    res.flushHeaders()
    open.push(res)
  })
  const client = await openRaw(gateway.port)
  client.write(rawRequest('GET /br/events', 'Accept-Encoding: br'))
  await client.until('the header, before any byte of the body', () => /\r\n\r\n/.test(client.received()))
  t.match(client.received(), /content-encoding: br/i)
  const decoder = zlib.createBrotliDecompress()
  let text = ''
  decoder.on('data', (chunk) => {
    text += chunk
  })
  let fed = client.received().indexOf('\r\n\r\n') + 4
  client.socket.on('data', () => {
    // Decodes every complete chunk.
    for (;;) {
      const rest = client.received().slice(fed)
      const [line, size] = /^([0-9a-f]+)\r\n/.exec(rest) ?? []
      if (line === undefined) return
      const end = line.length + Number.parseInt(size!, 16)
      if (rest.length < end + 2) return
      decoder.write(Buffer.from(rest.slice(line.length, end), 'latin1'))
      fed += end + 2
    }
  })
  for (let i = 0; i < 3; i++) {
    open[0]!.write(`data: ${i}\n\n`)
    await eventually(`event ${i} is through`, () => text.endsWith(`data: ${i}\n\n`))
  }
  client.socket.destroy()
  await gateway.recorded(1)
})

t.test('a response that the upstream cuts never looks complete', async (t) => {
  const { gateway } = await site(t, (_, res) => {
    res.writeHead(200, { 'Content-Type': 'application/json' })
    res.write(TEXT)
    setTimeout(() => res.destroy(), 50)
  })
  const client = await openRaw(gateway.port)
  client.write(rawRequest('GET /a', 'Accept-Encoding: gzip'))
  await client.closed()
  t.notMatch(client.received(), /\r\n0\r\n\r\n$/)
  t.same(client.responses(), [])
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 200, error: 'upstream_cut' })
})

t.test('a body is compressed no faster than the client reads, and ends with its client', async (t) => {
  const size = 64 * 1024 * 1024
  const piece = Buffer.from(randomBytes(49_152).toString('base64'))
  let sent = 0
  const { gateway } = await site(t, (_, res) => {
    res.writeHead(200, { 'Content-Type': 'text/plain' })
    const more = () => {
      while (sent < size) {
        sent += piece.length
        if (!res.write(piece)) {
          res.once('drain', more)
          return
        }
      }
      res.end()
    }
    more()
  })
  const client = await openRaw(gateway.port)
  client.write(rawRequest('GET /a', 'Accept-Encoding: gzip'))
  await client.until('the beginning', () => client.received().length > 1000)
  client.socket.pause()
  let before = -1
  let still = 0
  await eventually('everything stands still', () => {
    still = sent === before ? still + 1 : 0
    before = sent
    return still > 20
  })
  t.ok(sent < size / 2, `${sent} bytes have left the upstream for a client that reads nothing`)
  client.socket.destroy()
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 200, error: 'client_closed' })
})

t.test('at most 256 responses are compressed at once, and clients that leave make room', async (t) => {
  const { gateway, ask } = await site(t, (req, res) => {
    res.writeHead(200, { 'Content-Type': 'text/plain' })
    res.write(TEXT)
    if (req.url === '/whole') res.end()
  })
  for (const round of [1, 2]) {
    const clients = await Promise.all(Array.from({ length: 256 }, () => openRaw(gateway.port)))
    for (const client of clients) client.write(rawRequest('GET /a', 'Accept-Encoding: gzip'))
    await Promise.all(
      clients.map((client) => client.until('a beginning', () => client.received().includes('gzip'), 20_000)),
    )
    const answer = await ask('/whole', 'gzip')
    t.match(answer, { coding: undefined, text: TEXT })
    t.equal(answer.header('vary'), 'Accept-Encoding')
    for (const { socket } of clients) socket.destroy()
    await gateway.recorded(round * 257)
  }
  t.equal((await ask('/whole', 'gzip')).coding, 'gzip')
})

t.test('a large body arrives complete', async (t) => {
  const body = randomBytes(1_000_000).toString('base64')
  const { ask } = await site(t, (_, res) => json(res, {}, body))
  for (const coding of ['gzip', 'br']) {
    const answer = await ask('/a', coding)
    t.equal(answer.coding, coding)
    t.ok(answer.text === body, 'byte by byte')
  }
})

t.test('compressed responses follow each other on one connection', async (t) => {
  const { gateway } = await site(t, (req, res) => json(res, {}, JSON.stringify(req.url).repeat(200)))
  const one = (n: number) => rawRequest(`GET /${n}`, n % 2 === 0 ? 'Accept-Encoding: gzip' : 'Accept: */*')
  const { responses } = await rawExchange(gateway.port, [0, 1, 2, 3].map(one).join(''), { responses: 4 })
  for (const [n, response] of responses.entries()) {
    const bytes = Buffer.from(response.body, 'latin1')
    const text = n % 2 === 0 ? zlib.gunzipSync(bytes).toString() : bytes.toString()
    t.equal(text, JSON.stringify(`/${n}`).repeat(200))
  }
})
