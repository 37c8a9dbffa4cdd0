// Tests src/config/load/thread.ts
import { readFileSync } from 'node:fs'
import t from 'tap'
import { loadInThread } from '../../../src/config/load/in-thread.js'
import { loadConfig } from '../../../src/config/load/load.js'
import { compileSnapshot } from '../../../src/config/snapshot/snapshot.js'

const env = {
  PORT: '8080',
  ADMIN_TOKEN: 'a-token-of-the-admin',
  REDIS_PASSWORD: 'secret',
  MAX_KEYS: '1000',
  ACME_KEY: 'acme-secret',
  OTLP_TOKEN: 'otlp-secret',
}
/** Far above the size from which a thread is used. */
const padding = '# a comment\n'.repeat(2000)

function manyRoutes(count: number, extra = ''): string {
  const routes = Array.from({ length: count }, (_, i) => `  - { path: /r${i}/*, service: api }\n`).join('')
  return `tiers: [free]\nservices: { api: { upstreams: [http://127.0.0.1:1], limits: { free: 1/s } } }\nroutes:\n${routes}${extra}`
}

t.test('a long file is read in a thread, with the same result as here', async (t) => {
  const file = 'test/fixtures/config-full.yaml'
  const text = `${readFileSync(file, 'utf8')}\n${padding}`
  const here = loadConfig(text, { file: 'full.yaml', env })
  const apart = await loadInThread(text, { file: 'full.yaml', env })
  if (!here.ok || !apart.ok) throw new Error('the fixture is a good file')
  t.strictSame(apart.config, here.config)
  t.strictSame(apart.warnings, here.warnings)
  t.equal(apart.hashes.hash, compileSnapshot(here.config, 0).hash)
  t.equal(apart.hashes.fingerprint, compileSnapshot(here.config, 0).fingerprint)
  t.equal(
    Object.getPrototypeOf(apart.config.services),
    null,
    'names that users choose do not meet those that every object has',
  )
})

t.test('timers go on while the thread reads', async (t) => {
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const loaded = await loadInThread(manyRoutes(3000), { file: 'tidegate.yaml', env })
  clearInterval(timer)
  t.ok(loaded.ok)
  t.ok(ticks > 0, `${ticks} ticks`)
})

t.test('an error in a long file has its line, and shows no secret', async (t) => {
  const text = manyRoutes(400, '  - { path: /x, service: "$' + '{ADMIN_TOKEN}" }\n')
  const apart = await loadInThread(text, { file: 'tidegate.yaml', env })
  if (apart.ok) throw new Error('there is no such service')
  t.strictSame(apart.errors, (loadConfig(text, { file: 'tidegate.yaml', env }) as { errors: unknown }).errors)
  t.match(apart.errors, [{ line: 404 }])
  t.notMatch(JSON.stringify(apart.errors), /a-token-of-the-admin/)
})

t.test('a short file is read here, before the next turn of the event loop', async (t) => {
  const first = await Promise.race([
    loadInThread(manyRoutes(3), { file: 'tidegate.yaml', env }),
    new Promise((resolve) => setImmediate(resolve, 'another turn')),
  ])
  t.match(first, { ok: true })
})
