import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import { changesBetween } from '../../../src/config/load/diff.js'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import { applyRules } from '../../../src/gateway/transform/header-rules.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const page = readFileSync(new URL('../../../docs/shaping.md', import.meta.url), 'utf8')
const SERVICES = ['payments', 'api', 'api-canary', 'api-next', 'feed']

t.test('every example of docs/shaping.md is valid, without a warning', async (t) => {
  const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text]) => text!)
  t.ok(examples.length >= 8)
  for (const example of examples) {
    const own = example.startsWith('services:')
    const others = SERVICES.filter((name) => example.includes(`: ${name}`)).map(
      (name) => `  ${name}: { upstreams: [http://127.0.0.1:9001] }\n`,
    )
    const text = own
      ? `tiers: [free]\n${example}routes: [{ path: /*, service: payments }]\n`
      : `tiers: [free]\nservices:\n${others.join('') || '  {}'}\nroutes:\n${example}`
    const fixed = text.replace('services:\n  {}', 'services: {}')
    const result = loadConfig(fixed, { file: 'shaping.md', env: { UPSTREAM_TOKEN: 'secret-token' } })
    t.same((result.ok ? result.warnings : result.errors).map(formatError), [], example)
  }
})

const withToken = (token: string) => `
tiers: [free]
services: { a: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: a, headers: { request: { set: { Authorization: "${token}", X-A: "\${consumer}" } } } }]
`

t.test('the change of a header value is reported without the value', async (t) => {
  const before = snapshotOf(withToken('hunter2-before')).config
  const after = snapshotOf(withToken('hunter2-after')).config
  t.same(
    changesBetween(before, after).map(({ text }) => text),
    ['routes[/*].headers.request.set.Authorization: *** -> ***'],
  )
})

t.test('any id gives one line of printable ASCII, and two ids never the same', async (t) => {
  let compared = 0
  const snapshot = snapshotOf(withToken('x'))
  const rules = snapshot.routes[0]!.shape!.request!
  const fieldOf = (consumer: string) => {
    const x = exchangeFor(snapshot)
    x.route = snapshot.routes[0]
    x.consumer = consumer
    return applyRules(rules, [], x)[3]!
  }
  const id = fc.string({
    unit: fc.constantFrom('a', '%', '0', 'A', '\r', '\n', ' ', ':', '\0', 'é', '€', '😀', '\x7f', ','),
    maxLength: 6,
  })
  fc.assert(
    fc.property(id, id, (one, other) => {
      const [a, b] = [fieldOf(one), fieldOf(other)]
      compared++
      return /^[!-~]*$/.test(a) && (a === b) === (one === other) && decodeURIComponent(a) === one
    }),
    { numRuns: 2000 },
  )
  t.equal(compared, 2000)
})
