import t from 'tap'
import { openLimiter } from '../../limiter/contract/open-limiter.js'
import { eventually } from '../../support/eventually.js'
import type { TestGateway } from '../../support/gateway/gateway.js'
import { startSite } from '../../support/gateway/site.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { startRedis } from '../../support/redis/redis.js'

/** Tests charges with counts in Redis: two gateways, each with a connection of its own. */
const SITE = `
tiers: [free]
services:
  payments:
    upstreams: [PAYMENTS]
    limits:
      free:
        - { amount: 2, algorithm: concurrency }
        - { amount: 100, window: 1h, by: service }
        - 50/h
        - { amount: 1, algorithm: concurrency, candidate: true }
        - { amount: 40, window: 1h, candidate: true }
routes:
  - { path: /slow/*, service: payments }
  - { path: /fail/*, service: payments, cost: 3, refund_on: [5xx] }
  - { path: /tokens/*, service: payments, cost: 3, cost_header: x-token-cost }
`

t.test('slots, refunds, debts and candidates are counted once for all gateways', async (t) => {
  const redis = await startRedis(t)
  const answers: (() => void)[] = []
  const payments = await recordingUpstream(t, (req, res) => {
    req.resume()
    if (req.url!.startsWith('/fail')) res.writeHead(503).end()
    else if (req.url!.startsWith('/tokens')) res.writeHead(200, { 'x-token-cost': '10' }).end()
    else answers.push(() => res.end('ok'))
  })
  const gateways: TestGateway[] = []
  for (let i = 0; i < 2; i++) {
    const { limiter } = openLimiter(t, redis.url, 5_000)
    await limiter.ready
    gateways.push((await startSite(t, SITE, { payments }, { limiter })).gateway)
  }
  const [first, second] = gateways as [TestGateway, TestGateway]
  const { limiter: reader } = openLimiter(t, redis.url, 5_000)
  await reader.ready
  const used = async () => {
    const service = first.snapshot().services[0]!
    const policy = service.policies[0]!
    const levels = { ip: '127.0.0.1', tenant: undefined, route: '', byAddress: true }
    const live = await reader.usage(service, policy, '127.0.0.1', levels)
    const tried = await reader.usage(service, policy.candidate!, '127.0.0.1', levels)
    return [...live, ...tried].map((one) => one.used)
  }
  /** Settling happens after the response, without waiting. */
  const reads = async (expected: readonly number[], what: string) => {
    let last: number[] = []
    const settled = eventually(what, async () => {
      last = await used()
      return last.join() === expected.join()
    })
    await settled.catch(() => {})
    t.same(last, expected, what)
  }

  const one = await openRaw(first.port)
  const two = await openRaw(second.port)
  one.write(rawRequest('GET /slow/x'))
  await eventually('the first is with the upstream', () => answers.length === 1)
  two.write(rawRequest('GET /slow/x'))
  await eventually('so is the second', () => answers.length === 2)
  await reads([2, 2, 2, 1, 1], 'a slot each; the second would not have passed the candidates')
  const { responses } = await rawExchange(second.port, rawRequest('GET /slow/x'))
  t.equal(responses[0]!.status, 429)
  t.equal(responses[0]!.header('retry-after'), '1')
  answers[0]!()
  await reads([1, 2, 2, 0, 1], 'one of the two has ended')
  two.socket.destroy()
  await reads([0, 2, 2, 0, 1], 'and the caller of the other has left')

  await rawExchange(first.port, rawRequest('GET /fail/x'))
  await reads([0, 2, 2, 0, 1], 'what failed is given back at every level, and of what is tried out')
  await rawExchange(second.port, rawRequest('GET /tokens/x'))
  await reads([0, 12, 12, 0, 11], 'what cost more is taken on top')
  one.socket.destroy()
})
