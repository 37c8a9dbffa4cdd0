// `npm run page:screenshots`: takes the pictures of docs/page.md from a real gateway in a real browser, into docs/page. Takes two minutes.
//
// To look at a view while you work on it, name addresses: `node scripts/page-screenshots.mjs --out /tmp/shots '#/' '#/consumer/acme'` takes
// each light and dark, 1280 and 420 px wide. `--role viewer|support|operator` chooses who looks; `--store-away` stops Redis first;
// `--rejected` breaks the configuration file first. Build before: `node scripts/build.mjs --no-check`.
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'
import { findChromium, NO_CHROMIUM } from './page/chromium.mjs'
import { madeUpHour } from './page/history.mjs'
import { changeThings, startSite, TOKENS } from './page/site.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values, positionals: addresses } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: 'string' },
    role: { type: 'string', default: 'operator' },
    'store-away': { type: 'boolean' },
    rejected: { type: 'boolean' },
  },
})
const out = values.out ?? join(root, 'docs/page')
/** Ms that the traffic runs before the first picture: the limits of some consumers are used up by then. */
const WARM_UP = 20_000

const executablePath = findChromium()
if (executablePath === undefined) {
  console.error(NO_CHROMIUM)
  process.exit(1)
}
mkdirSync(out, { recursive: true })
const site = await startSite()
const browser = await chromium.launch({ executablePath })
const base = site.admin[0]
const FILE = site.configFiles[0]

/** Opens an address of the page as somebody of a role; without a role, nobody is signed in. */
async function open(address, { role = values.role, dark = false, width = 1280 } = {}) {
  const context = await browser.newContext({
    viewport: { width, height: width < 600 ? 800 : 860 },
    colorScheme: dark ? 'dark' : 'light',
    reducedMotion: 'reduce',
    timezoneId: 'UTC',
    locale: 'en-GB',
  })
  if (role !== '') {
    const token = JSON.stringify(TOKENS[role])
    await context.addInitScript(`sessionStorage.setItem('tidegate admin token', ${token})`)
  }
  // Nobody waits an hour for a chart of the last hour: this one is made up. Everything else is the gateway's.
  await context.route(/\/history(?:$|\?)/, (route) => {
    const since = new URL(route.request().url()).searchParams.get('since')
    return route.fulfill({ json: madeUpHour(Date.now(), since) })
  })
  // The files are in a temporary folder.
  await context.route(/\/(?:config|overview)$/, async (route) => {
    const response = await route.fetch()
    const text = (await response.text()).replaceAll(FILE, '/etc/tidegate/tidegate.yaml')
    await route.fulfill({ response, body: text })
  })
  const page = await context.newPage()
  page.on('console', (message) => {
    if (message.type() === 'error') console.log(`${address}: ${message.text()}`)
  })
  page.on('pageerror', (error) => console.log(`${address}: ${error}`))
  await page.goto(`${base}/${address}`)
  await page.waitForLoadState('networkidle', { timeout: 3000 }).catch(() => {})
  // Figures are rates between two answers.
  await sleep(role === '' ? 300 : 4500)
  return page
}

async function take(page, name, fullPage = true) {
  const path = join(out, `${name}.png`)
  await page.screenshot({ path, fullPage, animations: 'disabled', caret: 'hide' })
  console.log(`${path}  ${Math.ceil(statSync(path).size / 1024)} KiB`)
  await page.context().close()
}

const nameOf = (address) => address.replace(/^#\/?/, '').replace(/[^\w-]+/g, '-') || 'overview'

async function lookAt() {
  for (const address of addresses) {
    await Promise.all(
      [1280, 420].flatMap((width) =>
        [false, true].map(async (dark) => {
          const page = await open(address, { dark, width })
          await take(page, `${nameOf(address)}-${width}${dark ? '-dark' : ''}`)
        }),
      ),
    )
  }
}

/** Sends requests of a consumer until one is denied. Resolves with its id. */
async function deniedRequest(consumer) {
  for (;;) {
    const { status, id } = await site.ask('/payments/4711', consumer)
    if (status === 429) return id
  }
}

async function takeAll() {
  await take(await open('', { role: '' }), 'login', false)
  await take(await open('', { role: 'support' }), 'overview')
  await take(await open('', { dark: true }), 'overview-dark', false)
  await take(await open('', { width: 420 }), 'overview-narrow', false)
  await take(await open('#/consumer/acme', { role: 'support' }), 'consumer')
  await take(await boost(), 'boosted', false)
  await take(await open(`#/why/${await deniedRequest('umbrella')}`, { role: 'support' }), 'why')
  await take(await open('#/limits', { role: 'viewer' }), 'limits')
  await take(await open('#/upstreams'), 'upstreams', false)
  await take(await open('#/fleet'), 'fleet', false)
  const mend = await rejectFile()
  await take(await open('#/config'), 'config-rejected', false)
  await mend()
  site.redis.child.kill('SIGSTOP')
  // Decisions without the store make the gateway say so.
  await sleep(3000)
  await take(await open(''), 'degraded', false)
}

/** Gives a consumer an hour, as support does. */
async function boost() {
  const page = await open('#/consumer/soylent', { role: 'support' })
  await page.getByRole('button', { name: 'Boost…' }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Reason').fill('ticket 4712: they launch today')
  await dialog.locator('button[type=submit]').click()
  await dialog.getByText('audit entry').waitFor()
  return page
}

/** Breaks the file of the first gateway, and reloads it. Returns a function that mends it. */
async function rejectFile() {
  const text = readFileSync(FILE, 'utf8')
  const write = async (changed) => {
    writeFileSync(FILE, changed)
    const headers = { authorization: `Bearer ${TOKENS.operator}` }
    await fetch(`${base}/config/reload`, { method: 'POST', headers })
  }
  await write(text.replace('amount: 50000', 'amount: -5').replace('refunds, methods', 'refunds, method'))
  return () => write(text)
}

try {
  await changeThings(base)
  console.log(`the gateways serve; the page is at ${base}/`)
  await sleep(WARM_UP)
  if (values['store-away']) site.redis.child.kill('SIGSTOP')
  if (values.rejected) await rejectFile()
  if (addresses.length > 0) await lookAt()
  else await takeAll()
} finally {
  await browser.close()
  await site.stop()
}
// An idle connection of a client must not delay the prompt.
process.exit()
