import t from 'tap'
import { startFaces } from '../../support/http/faces.js'
import { rawUpstream, respond } from '../../support/http/raw-upstream.js'

/** Tests that paths which an upstream names are mapped to the client's. */

/** Answers with the fields that the query holds, one after the other. */
const upstream = await rawUpstream(t, (request) => {
  const fields = decodeURIComponent(request.target.split('?fields=')[1] ?? '').replaceAll(
    'UPSTREAM',
    upstream.authority,
  )
  respond(request, `HTTP/1.1 302 Found\r\n${fields}Content-Length: 0\r\n\r\n`)
})
const SITE = `
tiers: [free]
services:
  api: { upstreams: ["${upstream.origin}"] }
  based: { upstreams: ["${upstream.origin}/v2"] }
routes:
  - { path: /pre/*, service: api, strip_prefix: /pre, websocket: true }
  - { path: /own/*, service: api, strip_prefix: /own, preserve_host: true, websocket: true }
  - { path: /off/*, service: api, strip_prefix: /off, rewrite_location: false, websocket: true }
  - { path: /base/*, service: based, strip_prefix: /base, websocket: true }
  - { path: /bare/*, service: based, websocket: true }
  - { path: /new/:id, service: api, rewrite: "/old/:id", websocket: true }
  - { path: /*, service: api, websocket: true }
`
const faces = await startFaces(t, SITE)

type Case = [route: string, field: string, value: string, expected: string]
const cases: Case[] = [
  ['/pre', 'Location', '/login', '/pre/login'],
  ['/pre', 'Location', '/', '/pre/'],
  ['/pre', 'Location', '/login?to=/a#b', '/pre/login?to=/a#b'],
  ['/pre', 'Location', '/?a=/b', '/pre/?a=/b'],
  ['/pre', 'location', '/login', '/pre/login'],
  ['/pre', 'Content-Location', '/a.json', '/pre/a.json'],
  ['/pre', 'Location', 'http://UPSTREAM/login', '/pre/login'],
  ['/pre', 'Location', '//UPSTREAM/login', '/pre/login'],
  ['/pre', 'Location', 'http://UPSTREAM', '/pre/'],
  ['/pre', 'Location', '/pre/login', '/pre/login'],
  ['/pre', 'Location', '/prefix', '/pre/prefix'],
  ['/pre', 'Location', 'login', 'login'],
  ['/pre', 'Location', '../login', '../login'],
  ['/pre', 'Location', '?page=2', '?page=2'],
  ['/pre', 'Location', 'https://login.example/login', 'https://login.example/login'],
  ['/pre', 'Location', 'http://api.example/login', 'http://api.example/login'],
  ['/pre', 'Location', '//evil.example/login', '//evil.example/login'],
  ['/pre', 'Location', 'mailto:a@b.example', 'mailto:a@b.example'],
  ['/own', 'Location', 'http://api.example/login', 'http://api.example/own/login'],
  ['/own', 'Location', 'https://API.example:443/login?x', 'https://API.example:443/own/login?x'],
  ['/own', 'Location', 'http://other.example/login', 'http://other.example/login'],
  ['/off', 'Location', '/login', '/login'],
  ['/off', 'Set-Cookie', 'a=b; Path=/x', 'a=b; Path=/x'],
  ['/base', 'Location', '/v2/login', '/base/login'],
  ['/base', 'Location', '/v2', '/base/'],
  ['/base', 'Location', '/v3/login', '/v3/login'],
  ['/base', 'Location', 'http://UPSTREAM/v2/login', '/base/login'],
  ['/bare', 'Location', '/v2/bare/login', '/bare/login'],
  ['/new', 'Location', '/old/7', '/old/7'],
  ['/x', 'Location', '/login', '/login'],
  ['/pre', 'Set-Cookie', 'a=b; Path=/; HttpOnly', 'a=b; Path=/pre; HttpOnly'],
  ['/pre', 'Set-Cookie', 'a=b; Secure; path=/shop', 'a=b; Secure; path=/pre/shop'],
  ['/pre', 'Set-Cookie', 'a=/path; Max-Age=1', 'a=/path; Max-Age=1'],
  ['/pre', 'Set-Cookie', '__Host-a=b; Path=/; Secure', '__Host-a=b; Path=/; Secure'],
  ['/pre', 'Set-Cookie', 'a=b; Path=/pre/shop', 'a=b; Path=/pre/shop'],
  ['/base', 'Set-Cookie', 'a=b; Path=/v2/shop', 'a=b; Path=/base/shop'],
  ['/base', 'Set-Cookie', 'a=b; Path=/v2', 'a=b; Path=/base'],
  ['/base', 'Set-Cookie', 'a=b; Path=/', 'a=b; Path=/base'],
  ['/bare', 'Set-Cookie', 'a=b; Path=/v2/', 'a=b; Path=/'],
]

t.test("an upstream's own paths are mapped back in its responses, on every face", async (t) => {
  for (const face of faces) {
    for (const [route, field, value, expected] of cases) {
      const target = `${route}/x?fields=${encodeURIComponent(`${field}: ${value}\r\n`)}`
      const answer = await face.ask({ target })
      const shown = answer.header(field.toLowerCase())
      t.equal(
        shown,
        expected.replaceAll('UPSTREAM', upstream.authority),
        `${face.name} ${route} ${field}: ${value}`,
      )
    }
  }
})

t.test('each of several cookies is mapped, and other fields stay', async (t) => {
  const fields = 'Set-Cookie: a=1; Path=/\r\nX-Path: /a\r\nSet-Cookie: b=2; Path=/b\r\n'
  for (const face of faces) {
    const answer = await face.ask({ target: `/pre/x?fields=${encodeURIComponent(fields)}` })
    t.equal(answer.header('set-cookie'), 'a=1; Path=/pre, b=2; Path=/pre/b', face.name)
    t.equal(answer.header('x-path'), '/a', face.name)
  }
})
