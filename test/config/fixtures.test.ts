// Tests src/config/check/{admin,auth,checks,consumers,costs,edge,identity,limits,listener,resilience}.ts
// Tests src/config/check/{forward,shaping,signatures,tier-sources,tokens,upstream-tls}.ts
// Tests src/config/values/{parse-url,pem,public-key,scalar-addresses,scalar-credentials,scalar-http}.ts
// Tests src/config/values/{scalar-quantities,scalar-type,scalar-types,template,tier-source-url}.ts
import { readdirSync, readFileSync } from 'node:fs'
import { METHODS } from 'node:http'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { formatError, loadConfig } from '../../src/config/load/load.js'

const folder = fileURLToPath(new URL('../fixtures/config/', import.meta.url))
/** Environment of the fixtures. No message may show any of it. */
const env = {
  SECRET_LIMIT: 'hunter2-limit',
  SECRET_TIER: 'hunter2-tier',
  REDIS_PASSWORD: 'hunter2-redis',
  SHORT: 'hunter2',
}

function messagesFor(text: string, file: string): readonly string[] {
  const result = loadConfig(text, { file, env })
  return result.ok ? [] : result.errors.map(formatError)
}

const files = readdirSync(folder)
const fixtures = files.filter((name) => name.endsWith('.yaml')).map((name) => name.slice(0, -5))

t.test('every fixture has an expectation, and every expectation a fixture', async (t) => {
  t.ok(fixtures.length > 50)
  t.same(files, fixtures.flatMap((name) => [`${name}.txt`, `${name}.yaml`]).sort())
})

for (const name of fixtures) {
  t.test(`${name}.yaml gives exactly the messages of ${name}.txt`, async (t) => {
    const messages = messagesFor(readFileSync(`${folder}${name}.yaml`, 'utf8'), `${name}.yaml`)
    t.same(messages, readFileSync(`${folder}${name}.txt`, 'utf8').split('\n').slice(0, -1))
    t.not(messages.length, 0)
    for (const message of messages) {
      t.match(message, /^[a-z0-9-]+\.yaml:\d+:\d+: \S.*; \S/, 'says where, what is wrong, and what to do')
      t.notMatch(
        message,
        /hunter2|hun#ter2|my-key|demo-free-key|the-key-itself|user:pw/,
        'gives no secret away',
      )
    }
  })
}

t.test('a file of more than 1 MiB is not read', async (t) => {
  const message = 'big.yaml:1:1: the file is larger than 1 MiB; remove what does not belong in it'
  t.same(messagesFor(`#${' '.repeat(1024 * 1024)}`, 'big.yaml'), [message])
  // The limit is in bytes, not in characters.
  t.same(messagesFor(`#${'é'.repeat(512 * 1024)}`, 'big.yaml'), [message])
  t.match(messagesFor(`#${' '.repeat(1024 * 1024 - 1)}`, 'big.yaml'), [/the file is empty/])
})

t.test('input that would break the parser is refused before it, at once', async (t) => {
  const deep = /nested more than 20 levels deep/
  for (const text of [
    'a: '.concat('['.repeat(1e6)),
    '{a: '.repeat(2e5),
    '- '.repeat(5e5),
    '? '.repeat(5e5),
  ]) {
    t.match(messagesFor(text, 'bomb.yaml'), [deep])
  }
  const indented = Array.from({ length: 1000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')
  t.match(messagesFor(indented, 'bomb.yaml'), [/^bomb\.yaml:21:21: nested more than 20 levels deep/])
  const many = `a: &a 1\nb: [${'*a, '.repeat(200_000)}]`
  t.match(messagesFor(many, 'bomb.yaml'), [/^bomb\.yaml:2:\d+: the file holds more than 100,000 values/])
})

t.test('a file with many errors gives a hundred messages and the number of the rest', async (t) => {
  const routes = Array.from({ length: 3000 }, (_, i) => `  - { path: p${i}, service: s }\n`).join('')
  const messages = messagesFor(`tiers: [free]\nservices: {}\nroutes:\n${routes}`, 'wrong.yaml')
  t.equal(messages.length, 101)
  t.equal(messages[100], 'wrong.yaml:104:13: and 5900 more from here on; correct those above first')
})

t.test('a route for any method is reported as never reached when others take every method', async (t) => {
  const methods = METHODS.filter((method) => !['CONNECT', 'TRACE', 'HEAD'].includes(method))
  const text = (list: readonly string[]) => `
tiers: [free]
services: { a: { upstreams: [http://127.0.0.1:9001] } }
routes:
  - { path: /all, service: a }
  - { path: /all/, service: a, methods: [${list.join(', ')}] }
`
  t.same(messagesFor(text(methods), 'x.yaml'), [
    'x.yaml:5:13: routes[0].path: never reached: other routes of this path take every method; remove it',
  ])
  t.same(messagesFor(text(methods.slice(1)), 'x.yaml'), [])
})
