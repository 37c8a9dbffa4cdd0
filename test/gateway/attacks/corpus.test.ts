import { readFileSync } from 'node:fs'
import httpProxy from '@fastify/http-proxy'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { openRaw } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, respond } from '../../support/http/raw-upstream.js'
import { CASES, type CorpusCase } from './corpus/cases.js'
import { DIFFERENCES } from './corpus/differences.js'

type Parts = Record<string, string>

async function startPeer(t: Test, upstream: string): Promise<number> {
  const app = Fastify()
  await app.register(httpProxy, { upstream })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => {
    app.server.closeAllConnections()
    return app.close()
  })
  return (app.server.address() as { port: number }).port
}

/** The request in two pieces. The second one ends a chunked body, whose length is unknown until then. */
function bytesOf(one: CorpusCase): [first: string, last: string] {
  let text = `${one.method} ${one.target} HTTP/${one.version ?? '1.1'}\r\nHost: api.example.com\r\n`
  for (const [name, value] of one.fields ?? []) text += `${name}: ${value}\r\n`
  if (one.chunks !== undefined) {
    const sizes = one.chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('')
    return [`${text}Transfer-Encoding: chunked\r\n\r\n${sizes}`, '0\r\n\r\n']
  }
  if (one.body !== undefined) return [`${text}Content-Length: ${one.body.length}\r\n\r\n${one.body}`, '']
  return [`${text}\r\n`, '']
}

/** Every field by its lower-case name; values of a repeated one in order. */
function addFields(parts: Parts, fields: readonly (readonly [string, string])[]): Parts {
  for (const [name, value] of fields) {
    const key = name.toLowerCase()
    parts[key] = key in parts ? `${parts[key]}\n${value}` : value
  }
  return parts
}

function requestParts(request: RawRequest | undefined): Parts {
  if (request === undefined) return { '(whole)': 'nothing reaches the upstream' }
  return addFields(
    { '(method)': request.method, '(target)': request.target, '(body)': request.body },
    request.fields,
  )
}

async function exchange(port: number, one: CorpusCase, arrived: () => boolean): Promise<Parts> {
  const client = await openRaw(port, one.method === 'HEAD')
  const [first, last] = bytesOf(one)
  client.write(first)
  if (last !== '') {
    if (one.chunks!.length > 0) await eventually('the beginning arrives', arrived)
    client.write(last)
  }
  try {
    await client.until('response', () => client.responses().length === 1 || client.isClosed())
  } catch {
    return { '(whole)': client.isClosed() ? 'the connection is closed' : 'no response' }
  } finally {
    client.socket.destroy()
  }
  const [response] = client.responses()
  if (response === undefined) return { '(whole)': 'the connection is closed' }
  const interim = client.received().startsWith('HTTP/1.1 1') ? client.received().slice(9, 12) : 'none'
  const [line, ...rest] = response.head.split('\r\n')
  const fields = rest.map((field) => {
    const colon = field.indexOf(':')
    return [field.slice(0, colon), field.slice(colon + 1).trim()] as const
  })
  const parts = addFields(
    {
      '(interim)': interim,
      '(status)': String(response.status),
      '(reason)': line!.slice(13),
      '(body)': response.body,
    },
    fields,
  )
  // Node adds a Date if the upstream sent none: equal except for the seconds.
  if (!one.response.includes('\r\nDate: ')) parts.date = '(now)'
  return parts
}

/** Names the differences as `request via`, or `exchange` if one of the two did not forward the request. */
function differencesOf(
  peer: { request: Parts; response: Parts },
  ours: { request: Parts; response: Parts },
): string[] {
  if ('(whole)' in peer.request || '(whole)' in ours.request) return ['exchange']
  if (peer.response['(status)'] !== ours.response['(status)']) return ['exchange']
  const found: string[] = []
  for (const side of ['request', 'response'] as const) {
    for (const part of new Set([...Object.keys(peer[side]), ...Object.keys(ours[side])])) {
      if (peer[side][part] !== ours[side][part]) found.push(`${side} ${part}`)
    }
  }
  return found.sort()
}

function intendedFor(one: CorpusCase): string[] {
  const named = DIFFERENCES.filter(({ cases }) => cases?.includes(one.name))
  if (named.some(({ side }) => side === 'exchange')) return ['exchange']
  const general = DIFFERENCES.filter(
    ({ cases, except }) => cases === undefined && !except?.includes(one.name),
  )
  return [...named, ...general].flatMap(({ side, parts }) => parts!.map((part) => `${side} ${part}`)).sort()
}

t.test('@fastify/http-proxy and Tidegate forward the corpus alike, but for listed differences', async (t) => {
  let current = CASES[0]!
  const upstream = await rawUpstream(t, (request) => {
    respond(request, current.response)
    if (current.closes) request.socket.end()
  })
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /*, service: api }]
server: { min_rate: 0 }
`,
  )
  const peerPort = await startPeer(t, upstream.origin)
  const through = async (port: number) => {
    const before = upstream.requests.length
    const response = await exchange(port, current, () => upstream.requests.length > before)
    return { request: requestParts(upstream.requests[before]), response }
  }

  for (const one of CASES) {
    current = one
    const [peer, ours] = [await through(peerPort), await through(gateway.port)]
    const found = differencesOf(peer, ours)
    t.strictSame(found, intendedFor(one), one.name, { peer, ours })
  }
  t.strictSame(gateway.logged, [])
})

t.test('every case has its own name, and docs/forwarding.md repeats the list of differences', async (t) => {
  const names = CASES.map(({ name }) => name)
  t.ok(names.length >= 60)
  t.equal(new Set(names).size, names.length, 'every case has a name of its own')
  for (const { what, cases = [], except = [] } of DIFFERENCES) {
    for (const name of [...cases, ...except]) t.ok(names.includes(name), `${what}: ${name}`)
  }
  const page = readFileSync(new URL('../../../docs/forwarding.md', import.meta.url), 'utf8')
  const [, table = ''] = page.split('| What differs | Why |\n| --- | --- |\n')
  t.strictSame(
    table.split('\n\n', 1)[0]!.trimEnd().split('\n'),
    DIFFERENCES.map(({ what, reason }) => `| ${what} | ${reason} |`),
    'docs/forwarding.md repeats the list',
  )
  t.match(page, `A corpus of ${names.length} requests`)
})
