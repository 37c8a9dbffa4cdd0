// What a remembered decision of an auth service costs a request, in µs of the process's CPU: node bench/micro/forward-auth.mjs,
// after npm run build. Medians of rounds over 1,024 paths, for all parts of a request and for one header.
import { once } from 'node:events'
import { createServer } from 'node:http'
import { loadConfig } from '../../dist/config/load/load.js'
import { compileSnapshot } from '../../dist/config/snapshot/snapshot.js'
import { createForwardAuth } from '../../dist/credentials/forward-auth.js'
import { Exchange } from '../../dist/gateway/exchange/exchange.js'
import { readHeaders } from '../../dist/gateway/exchange/headers.js'
import { identifyByForward } from '../../dist/gateway/identify/forward.js'

const ROUNDS = 7
const CALLS = 500_000
const PATHS = 1024
const RAW = [
  'Host',
  'api.example.com',
  'Accept',
  '*/*',
  'Authorization',
  `Bearer ${'0123456789abcdef'.repeat(2)}`,
]

const service = createServer((_, res) => res.writeHead(200, { 'X-User': 'alice', 'X-Plan': 'pro' }).end())
service.listen(0, '127.0.0.1')
await once(service, 'listening')

for (const by of ['', ', by: [authorization]']) {
  const { config } = loadConfig(
    `
tiers: [free, pro]
consumers: [{ forward: { url: "http://127.0.0.1:${service.address().port}/", headers: [authorization], id: x-user, tier: x-plan, cache: { for: 1h${by} } } }]
services: { api: { upstreams: ["http://127.0.0.1:1"] } }
routes: [{ path: /*, service: api }]`,
    { file: 'bench.yaml', env: {} },
  )
  const snapshot = compileSnapshot(config, 0)
  const auth = createForwardAuth({ log: { info() {}, warn() {} } })
  const headers = readHeaders(RAW, snapshot, false)
  const exchanges = Array.from({ length: PATHS }, (_, i) => {
    const x = new Exchange(snapshot, 'id', 'GET', '/', headers, '192.0.2.7', 0)
    x.path = `/v1/items/${i}`
    x.query = '?page=1'
    return x
  })
  const [source] = snapshot.consumers
  for (const x of exchanges) await identifyByForward(x, source, auth)
  const rounds = Array.from({ length: ROUNDS }, () => {
    const began = process.cpuUsage()
    for (let i = 0; i < CALLS; i++) {
      if (identifyByForward(exchanges[i % PATHS], source, auth) !== undefined)
        throw new Error('not remembered')
    }
    const { user, system } = process.cpuUsage(began)
    return (user + system) / CALLS
  }).sort((a, b) => a - b)
  console.log(`${by === '' ? 'by everything' : 'by one header'}: ${rounds[ROUNDS >> 1].toFixed(2)} µs`)
  auth.close()
}
service.close()
service.closeAllConnections()
