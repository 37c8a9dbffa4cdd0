import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser } from 'playwright-core'
import type { Test } from 'tap'
import { inTab } from '../../support/browser.js'
import { startWhole } from '../../support/gateway/whole-gateway.js'

/** A gateway whose admin API is open to this machine, which is what a page of another origin would use. */
const OPEN = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
log: { access: "off" }
server: { shed: { event_loop_delay: 0 } }
tiers: [free, pro]
default_tier: free
consumers: [{ header: { name: x-user-id, from: anyone } }, { api_key: { store: {} } }]
services:
  payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min, pro: 100/min } }
routes: [{ path: /*, service: payments }]
`

/** Every documented endpoint that changes something, with a body that it takes. */
const WRITES = [
  ...readFileSync(new URL('../../../docs/admin-api.md', import.meta.url), 'utf8').matchAll(
    /^## (POST|PUT|DELETE) (\/\S+)$/gm,
  ),
].map(([, method, path]) => ({
  method: method!,
  path: path!.replace(
    /\{(\w+)\}/g,
    (_, name) =>
      ({
        service: 'payments',
        limit: 'minute',
        of: 'consumer',
        block: '203.0.113.7',
        address: '127.0.0.1:9',
      })[name as string] ?? 'acme',
  ),
  body: {
    tier: 'pro',
    for: '1h',
    by: 100,
    amount: 100,
    consumer: 'acme',
    state: 'drained',
    url: '/',
    rows: [],
  },
}))

/** Serves an empty page of another origin. */
async function startOtherSite(t: Test): Promise<number> {
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/html')
    response.end('<!doctype html><title>Another site</title><body>')
  })
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

/** Tests what pages of other origins can do. */
export async function testOtherSites(t: Test, browser: Browser): Promise<void> {
  await t.test('a page of another origin changes nothing, whichever way it asks', async (t) => {
    t.ok(WRITES.length > 20, `${WRITES.length} endpoints that write are documented`)
    const { admin } = await startWhole(t, OPEN)
    const port = await startOtherSite(t)
    // biome-ignore lint/suspicious/noExplicitAny: tests look into it
    const read = async (path: string): Promise<any> => (await fetch(`${admin}${path}`)).json()
    const before = await read('/config')
    for (const host of ['127.0.0.1', 'localhost', 'evil.example']) {
      await inTab(t, browser, `http://${host}:${port}/`, { faults: 'allowed' }, async (page) => {
        const statuses: number[] = []
        page.on('response', (response) => {
          if (response.url().startsWith(admin)) statuses.push(response.status())
        })
        const attempts = JSON.stringify({ admin, writes: WRITES })
        await page.evaluate(`(async ({ admin, writes }) => {
            const tried = writes.flatMap(({ method, path, body }) => {
              const url = admin + path
              const text = JSON.stringify(body)
              const simple = { method: 'POST', mode: 'no-cors', body: text }
              const asJson = { method, headers: { 'content-type': 'application/json' }, body: text }
              return [
                fetch(url, { ...asJson, mode: 'cors' }),
                fetch(url, { method, mode: 'cors' }),
                fetch(url, { ...simple, headers: { 'content-type': 'text/plain' } }),
                fetch(url, { ...simple, credentials: 'include' }),
                navigator.sendBeacon(url, new Blob([text], { type: 'application/json' })),
                navigator.sendBeacon(url, text),
                new Promise((done) => {
                  const image = new Image()
                  image.onload = image.onerror = done
                  image.src = url
                }),
                new Promise((done) => {
                  const frame = document.createElement('iframe')
                  frame.name = 'f' + Math.random()
                  document.body.append(frame)
                  const form = document.createElement('form')
                  Object.assign(form, { method: 'post', enctype: 'text/plain', action: url, target: frame.name })
                  const input = document.createElement('input')
                  Object.assign(input, { name: text.slice(0, -1) + ',"x":"', value: '"}' })
                  form.append(input)
                  document.body.append(form)
                  form.submit()
                  frame.onload = done
                  setTimeout(done, 1000)
                }),
              ]
            })
            await Promise.allSettled(tried)
          })(${attempts})`)
        t.ok(statuses.length >= WRITES.length, `${statuses.length} requests of ${host} were answered`)
        t.strictSame(
          [...new Set(statuses)].filter((status) => status < 400),
          [],
          'none of them with success',
        )
      })
    }
    t.strictSame((await read('/audit')).entries, [], 'nothing is recorded')
    t.strictSame(await read('/config'), before, 'nothing was reloaded')
    t.match(await read('/consumers/acme/tier'), { tier: 'free' })
    t.strictSame((await read('/bans')).bans, [])
    t.strictSame((await read('/keys')).keys, [])
  })

  t.test('a name of another site that leads to this machine shows nothing', async (t) => {
    const { admin } = await startWhole(t, OPEN)
    const { port } = new URL(admin)
    await inTab(
      t,
      browser,
      `http://evil.example:${await startOtherSite(t)}/`,
      { faults: 'allowed' },
      async (page) => {
        for (const path of ['/', '/overview', '/consumers/acme/tier', '/audit']) {
          const response = await page.goto(`http://evil.example:${port}${path}`)
          t.equal(response?.status(), 403, path)
        }
      },
    )
  })
}
