import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { upstreamHeaders } from '../../../src/gateway/forward/upstream-request.js'
import { identifyConsumer } from '../../../src/gateway/stages/consumer.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { noHooks } from '../../support/gateway/hooks.js'

const REQUEST = { httpVersionMajor: 1, httpVersionMinor: 1 } as IncomingMessage

/** Returns the headers for the upstream, of a consumer whose tenant comes from a tier source. */
function headersWith(header: string): readonly string[] {
  const snapshot = snapshotOf(`
tiers: [free]
consumers: [{ header: ${header} }]
services: { api: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: api }]
`)
  const x = exchangeFor(snapshot, { headers: ['x-user-id', 'alice'] })
  const identify = identifyConsumer({
    tokens: { verify: () => t.fail('no token'), unknownTier() {} } as never,
    runHooks: noHooks,
  })
  t.equal(identify(x), undefined)
  x.route = snapshot.routes[0]
  x.tenant = 'group'
  const [service] = snapshot.services
  return upstreamHeaders(x, service!, service!.upstreams[0]!, REQUEST)
}

t.test('a tenant from a tier source is sent in the tenant header, if there is one', async (t) => {
  const named = headersWith('{ name: x-user-id, tenant: x-org, from: anyone }')
  t.equal(named[named.indexOf('x-user-id') + 1], 'alice')
  t.equal(named[named.indexOf('x-org') + 1], 'group')
  const without = headersWith('{ name: x-user-id, from: anyone }')
  t.notOk(without.includes('group'))
  t.notOk(without.some((text) => text === undefined))
})
