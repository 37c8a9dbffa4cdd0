// Tests src/gateway/respond/send-response.ts
import t from 'tap'
import { startFaces } from '../../support/http/faces.js'
import { recordingUpstream } from '../../support/http/upstream.js'

/** Tests what the gateway answers by itself, and how it reads targets and hosts, on every face that has them. */

const upstream = await recordingUpstream(t)
const SITE = `
tiers: [free]
services: { api: { upstreams: ["${upstream.origin}"] } }
routes:
  - { path: /*, service: api, websocket: true }
  - { path: /read, methods: [GET, OPTIONS], service: api }
  - { path: /cors, service: api, cors: { origins: ["https://app.example"] } }
  - { path: /p/*, service: api, cors: { origins: ["https://app.example"] } }
  - { path: /p/refunds, methods: [POST], service: api }
  - { path: /p/notes, methods: [POST], service: api, cors: { origins: ["https://notes.example"] } }
  - { path: /p/own, service: api }
`
const faces = await startFaces(t, SITE)
const forwards = (value: string) => ({
  method: 'OPTIONS',
  target: '/read',
  fields: [['Max-Forwards', value]] as const,
})
/** A handshake is a GET. */
const methods = faces.filter(({ name }) => name !== 'upgrade')

t.test('OPTIONS * is answered, and not forwarded', async (t) => {
  for (const face of methods) {
    const before = upstream.received.length
    const answer = await face.ask({ method: 'OPTIONS', target: '*' })
    t.equal(answer.status, 204, face.name)
    t.match(answer.header('allow'), /^GET, HEAD, POST/, face.name)
    t.equal(answer.header('content-length'), undefined, face.name)
    t.equal(upstream.received.length, before, face.name)
    // Over HTTP/2 it is malformed, and the stream is reset.
    const refused = face.name === 'http2' ? 0 : 400
    t.match(await face.ask({ method: 'GET', target: '*' }), { status: refused }, face.name)
    t.match(await face.ask({ method: 'OPTIONS', target: '*', host: 'a..' }), { status: 400 }, face.name)
  }
})

t.test('Max-Forwards of OPTIONS is counted down, and 0 is answered here', async (t) => {
  for (const face of methods) {
    const before = upstream.received.length
    const last = await face.ask(forwards('0'))
    t.equal(last.status, 204, face.name)
    t.equal(last.header('allow'), 'GET, OPTIONS', face.name)
    t.equal(upstream.received.length, before, face.name)
    for (const [said, left] of [
      ['1', '0'],
      ['10', '9'],
      ['007', '6'],
      ['99999999999999999999', '2147483647'],
      ['-1', '-1'],
      ['x', 'x'],
    ] as const) {
      t.match(await face.ask(forwards(said)), { status: 200 }, `${face.name} ${said}`)
      t.same(upstream.received.at(-1)!.values('max-forwards'), [left], `${face.name} ${said}`)
    }
    await face.ask({ fields: [['Max-Forwards', '0']] })
    t.same(upstream.received.at(-1)!.values('max-forwards'), ['0'], `${face.name}: of a GET it means nothing`)
    t.match(await face.ask({ method: 'TRACE', fields: [['Max-Forwards', '1']] }), { status: 405 }, face.name)
  }
})

t.test("a browser's preflight is answered by its route, whatever Max-Forwards says", async (t) => {
  for (const face of methods) {
    const fields = [
      ['Origin', 'https://app.example'],
      ['Access-Control-Request-Method', 'PUT'],
      ['Max-Forwards', '0'],
    ] as const
    const answer = await face.ask({ method: 'OPTIONS', target: '/cors', fields })
    t.equal(answer.header('access-control-allow-origin'), 'https://app.example', face.name)
  }
})

t.test('an invalid Host is 400', async (t) => {
  for (const face of faces) {
    for (const host of ['a..', 'a..b', 'a:99999', '[::::]', 'a@b']) {
      const { status } = await face.ask({ host })
      // Node 24 resets the stream of some of them itself over HTTP/2.
      const isReset = face.name === 'http2' && status === 0
      t.ok(status === 400 || isReset, `${face.name} ${host}: ${status}`)
    }
  }
})

t.test('bytes that no URI may hold are forwarded percent-encoded', async (t) => {
  for (const face of methods) {
    t.match(await face.ask({ target: '/a"<>{}|^`?b="<>{}|^`' }), { status: 200 }, face.name)
    const escaped = '%22%3C%3E%7B%7D%7C%5E%60'
    t.equal(upstream.received.at(-1)!.url, `/a${escaped}?b=${escaped}`, face.name)
  }
})

t.test('a preflight is answered by the route of the method it asks for, and by no other', async (t) => {
  const preflight = (target: string, method: string, origin = 'https://app.example') => ({
    method: 'OPTIONS',
    target,
    fields: [
      ['Origin', origin],
      ['Access-Control-Request-Method', method],
    ] as const,
  })
  for (const face of methods) {
    const before = upstream.received.length
    const allowed = async (...asked: Parameters<typeof preflight>) => {
      const { status, header } = await face.ask(preflight(...asked))
      return [status, header('access-control-allow-origin')]
    }
    t.same(await allowed('/p/refunds', 'POST'), [405, undefined], `${face.name}: no page sends a refund`)
    t.same(await allowed('/p/refunds', 'GET'), [204, 'https://app.example'], face.name)
    t.same(await allowed('/p/x', 'POST'), [204, 'https://app.example'], face.name)
    t.same(await allowed('/p/notes', 'POST'), [204, undefined], face.name)
    t.same(
      await allowed('/p/notes', 'POST', 'https://notes.example'),
      [204, 'https://notes.example'],
      face.name,
    )
    t.equal(upstream.received.length, before, face.name)
    t.same(await allowed('/p/own', 'POST'), [200, undefined], `${face.name}: a backend may answer for itself`)
    t.equal(upstream.received.length, before + 1, face.name)
  }
})
