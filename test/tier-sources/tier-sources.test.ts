import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import type { Config } from '../../src/config/schema/schema.js'
import { openTierSources } from '../../src/tier-sources/tier-sources.js'
import { snapshotOf } from '../support/gateway/gateway.js'

const quiet = { info() {}, warn() {} }

/** Starts two endpoints in one, `/a/…` and `/b/…`, and counts the requests to each. */
async function endpoint(t: Test) {
  const asked = { a: 0, b: 0 }
  const server = createServer((req, res) => {
    const which = req.url!.slice(1, 2) as 'a' | 'b'
    asked[which]++
    res.end(JSON.stringify({ tier: `${which}${asked[which]}` }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

function settings(...sources: string[]): Config['tier_sources'] {
  return snapshotOf(`
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
tier_sources: [${sources.map((source) => `{ http: ${source} }`).join(', ')}]
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
`).config.tier_sources
}

t.test('a source that a reload does not change keeps its answers, even when its times change', async (t) => {
  const { origin, asked } = await endpoint(t)
  const a = (more = '') => `{ name: a, url: "${origin}/a/{consumer}"${more} }`
  const b = `{ name: b, url: "${origin}/b/{consumer}" }`
  const tierSources = openTierSources({ settings: settings(a(), b), log: quiet })
  t.teardown(() => tierSources.close())
  const tierBy = async (place: number, later = 0) =>
    (await tierSources.sources()[place]!.find('acme', performance.now() + later))?.tier
  t.same([await tierBy(0), await tierBy(1)], ['a1', 'b1'])

  tierSources.use(settings(b, a(', ttl: 10m')))
  t.same([await tierBy(0), await tierBy(1, 6 * 60_000)], ['b1', 'a1'], 'in the new order, from memory')
  t.same(asked, { a: 1, b: 1 })

  tierSources.use(settings(a(', tier: plan')))
  t.equal(await tierBy(0), undefined, 'a tier read from another member is looked up anew')
  t.same(asked, { a: 2, b: 1 })
  t.match(tierSources.describe(), [
    { source: 'a', up: true, counts: { lookups: { hit: 1, miss: 2 }, questions: { found: 1, none: 1 } } },
  ])
  t.equal(tierSources.describe().length, 1)
})

t.test('a source that a reload removes during a lookup makes nobody wait', async (t) => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/{consumer}`
  const tierSources = openTierSources({ settings: settings(`{ url: "${url}", timeout: 60s }`), log: quiet })
  const [source] = tierSources.sources()
  const found = source!.find('acme', performance.now())
  tierSources.use([])
  t.equal(await found, undefined)
  t.same(tierSources.sources(), [])
})
