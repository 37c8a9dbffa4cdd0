import { readFileSync, writeFileSync } from 'node:fs'
import type { Browser, Page, Route } from 'playwright-core'
import type { Test } from 'tap'
import { inTab, seriousFindings } from '../../support/browser.js'
import { goTo, isTooWide, type PageSite, TOKENS, VIEW_NAMES } from '../../support/page-site.js'
import { addressesOf } from './views.js'

/** Matches what views ask, and not the files of the page, nor whose token it is. */
const DATA = /^http:\/\/[^/]+\/(?!page\/|whoami|$)/

/** Longer than the shell waits until it tries again, in ms. */
const NEXT_TRY = 31_000

/** Tests what the page shows while answers are late, missing or bad. */
export async function testStates(t: Test, browser: Browser, site: PageSite): Promise<void> {
  const admin = site.admin[0]!
  const operator = { token: TOKENS.operator }
  const addresses = await addressesOf(site)
  const isStale = (page: Page) => page.locator('#view.stale').count()

  await t.test('while the first answer is awaited, a view says so', async (t) => {
    await inTab(t, browser, `${admin}/`, operator, async (page) => {
      await goTo(page, '#/')
      for (const address of addresses.values()) {
        const held: Route[] = []
        await page.route(DATA, (route) => void held.push(route))
        await page.evaluate(`location.hash = '#/none'`)
        await page.evaluate(`location.hash = ${JSON.stringify(address)}`)
        await page.locator('#wait:not([hidden])').waitFor()
        t.equal(await page.locator('#wait').isVisible(), true, address)
        t.strictSame(await seriousFindings(page), [], `${address} while it waits`)
        await page.unroute(DATA)
        await Promise.all(held.map((route) => route.continue().catch(() => {})))
        await page.locator('#view:not([hidden])').waitFor()
      }
    })
  })

  await t.test('an error is shown with what the API says, and the view recovers by itself', async (t) => {
    await inTab(t, browser, `${admin}/`, operator, async (page) => {
      await page.clock.install()
      for (const address of addresses.values()) {
        await page.route(DATA, (route) =>
          route.fulfill({ status: 503, json: { status: 503, code: 'x', detail: 'The tide is out.' } }),
        )
        await goTo(page, address)
        await page.getByText('The tide is out.').first().waitFor()
        t.strictSame(await seriousFindings(page), [], `${address} with an error`)
        await page.unroute(DATA)
        await page.clock.fastForward(NEXT_TRY)
        await page.locator('#view:not([hidden]):not(.stale)').waitFor()
        t.equal(await page.locator('#problem').isVisible(), false, `${address}: the error is gone`)
      }
    })
  })

  await t.test('when the gateway is out of reach, what was known stays, marked as old', async (t) => {
    await inTab(t, browser, `${admin}/`, operator, async (page) => {
      await page.clock.install()
      for (const [name, address] of addresses) {
        await goTo(page, address)
        const before = await page.locator('#view h2').allTextContents()
        await page.context().setOffline(true)
        await page.clock.fastForward(NEXT_TRY)
        // Views that ask once know nothing of it; the state in the header does.
        await page.getByText('No answer').first().waitFor()
        if ((await isStale(page)) > 0) {
          await page.locator('#problem').getByText('has not answered since').waitFor()
          t.strictSame(await seriousFindings(page), [], `${address} while it is old`)
        } else t.not(name, '', 'the overview is marked as old')
        t.strictSame(
          await page.locator('#view h2').allTextContents(),
          before,
          `${address} still shows what it knew`,
        )
        await page.context().setOffline(false)
        await page.clock.fastForward(NEXT_TRY)
        await page.getByText('Serving', { exact: true }).waitFor()
        await page.locator('#view:not([hidden]):not(.stale)').waitFor()
        t.equal(await page.locator('#problem').isVisible(), false, `${address}: the error is gone`)
      }
    })
  })

  await t.test('a bug of the page is not told as a gateway that does not answer', async (t) => {
    await inTab(t, browser, `${admin}/`, { ...operator, faults: 'allowed' }, async (page) => {
      await page.route(/\/services\?/, (route) =>
        route.fulfill({ json: { services: [{}], total: 1, next: null } }),
      )
      await page.evaluate(`location.hash = '#/limits'`)
      await page.locator('#problem').getByText('This page has a bug').waitFor()
      await page.getByText('Serving', { exact: true }).waitFor()
    })
  })

  await t.test('an answer that is late does not show in a view that was opened after it', async (t) => {
    await inTab(t, browser, `${admin}/`, operator, async (page) => {
      await goTo(page, '#/')
      const held: Route[] = []
      await page.route(/\/upstreams$/, (route) => void held.push(route))
      await page.evaluate(`location.hash = '#/upstreams'`)
      await page.getByRole('heading', { level: 1, name: 'Upstreams' }).waitFor()
      await goTo(page, '#/')
      await Promise.all(held.map((route) => route.continue().catch(() => {})))
      t.equal(await page.locator('#view').count(), 1)
      await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor()
      t.equal(await page.locator('#problem').isVisible(), false)
    })
  })

  await t.test('a rejected file is shown with its place, and the state says so', async (t) => {
    const [file] = site.configFiles
    const text = readFileSync(file!, 'utf8')
    const reload = () =>
      fetch(`${admin}/config/reload`, {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKENS.operator}` },
      })
    writeFileSync(file!, text.replace('amount: 50000', 'amount: -5'))
    t.equal((await reload()).status, 422)
    try {
      await inTab(t, browser, `${admin}/`, operator, async (page) => {
        await page.getByText('Serving, but the configuration file is bad').waitFor()
        if (!VIEW_NAMES.includes('config')) return
        await goTo(page, '#/config')
        const line = text.slice(0, text.indexOf('amount: 50000')).split('\n').length
        await page.locator('#view').getByText(String(line), { exact: true }).first().waitFor()
        t.strictSame(await seriousFindings(page), [])
        await page.setViewportSize({ width: 420, height: 800 })
        t.equal(await isTooWide(page), false)
      })
    } finally {
      writeFileSync(file!, text)
      await reload()
    }
  })

  await t.test('without the store every view shows what is known, and what is not', async (t) => {
    site.redis.child.kill('SIGSTOP')
    try {
      await site.ask('/payments/1', 'acme')
      await inTab(t, browser, `${admin}/`, operator, async (page) => {
        await page.getByText(/^Degraded: deciding without the store/).waitFor()
        for (const address of addresses.values()) {
          await goTo(page, address)
          t.strictSame(await seriousFindings(page), [], `${address} without the store`)
          t.equal(await isTooWide(page), false, address)
        }
      })
    } finally {
      site.redis.child.kill('SIGCONT')
    }
  })
}
