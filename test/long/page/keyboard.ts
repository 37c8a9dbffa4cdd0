import type { Browser, Page } from 'playwright-core'
import type { Test } from 'tap'
import { inTab } from '../../support/browser.js'
import { goTo, type PageSite, TOKENS, VIEW_NAMES } from '../../support/page-site.js'
import { addressesOf, deniedRequest } from './views.js'

const focused = (page: Page) =>
  page.evaluate<string>(`(() => {
    const at = document.activeElement
    return at === document.body ? '' : at.id || at.getAttribute('aria-label') || at.textContent.trim() || at.tagName
  })()`)

/** Tests the page without a mouse: search, history, focus. */
export async function testKeyboard(t: Test, browser: Browser, site: PageSite): Promise<void> {
  const admin = site.admin[0]!
  const operator = { token: TOKENS.operator }
  const addresses = await addressesOf(site)

  await t.test('everything is reached by Tab, and shows that it has the focus', async (t) => {
    await inTab(t, browser, `${admin}/`, operator, async (page) => {
      for (const address of addresses.values()) {
        await page.goto(`${admin}/${address}`)
        await page.reload()
        await page.locator('#view:not([hidden])').waitFor()
        const count = await page
          .locator('a[href]:visible, button:enabled:visible, input:visible, select:visible, summary:visible')
          .count()
        const order: string[] = []
        for (let i = 0; i < Math.min(count + 20, 120); i++) {
          await page.keyboard.press('Tab')
          const at = await focused(page)
          if (at === '') break
          order.push(at)
          const outline = await page.evaluate<string>(
            `(() => { const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(document.activeElement)
               return (outlineStyle !== 'none' && outlineWidth !== '0px') || boxShadow !== 'none' ? 'seen' : 'not seen' })()`,
          )
          t.equal(outline, 'seen', `${address}: ${at}`)
        }
        t.equal(order[0], 'skip', 'the first leads to the content')
        t.ok(order.length >= Math.min(count, 100), `${address}: ${order.length} of ${count}`)
      }
    })
  })

  await t.test('the skip link leads to the heading', async (t) => {
    await inTab(t, browser, `${admin}/#/upstreams`, operator, async (page) => {
      await page.locator('#view:not([hidden])').waitFor()
      await page.keyboard.press('Tab')
      await page.keyboard.press('Enter')
      t.equal(await focused(page), 'heading')
      t.match(page.url(), /#\/upstreams$/, 'the view stays')
    })
  })

  await t.test('a slash leads to the search, which finds consumers and requests', async (t) => {
    const id = await deniedRequest(site)
    await inTab(t, browser, `${admin}/`, operator, async (page) => {
      await page.locator('#view:not([hidden])').waitFor()
      await page.keyboard.press('/')
      t.equal(await focused(page), 'term')
      await page.keyboard.type('/ is text here')
      t.equal(await page.locator('#term').inputValue(), '/ is text here')
      for (const [text, hash] of [
        ['acme', '#/consumer/acme'],
        ['user/42 %', `#/consumer/${encodeURIComponent('user/42 %')}`],
        ...(VIEW_NAMES.includes('why') ? [[id, `#/why/${id}`]] : []),
      ] as [string, string][]) {
        await page.locator('#term').fill(text)
        await page.keyboard.press('Enter')
        await page.waitForURL((url) => url.hash === hash)
        if (VIEW_NAMES.includes('consumer'))
          await page.locator('#view:not([hidden]), #problem:not([hidden])').first().waitFor()
        t.equal(await focused(page), 'heading', 'the reader is led to the new view')
      }
    })
  })

  await t.test('back and forward lead through the views', async (t) => {
    await inTab(t, browser, `${admin}/`, operator, async (page) => {
      const seen: [string, string][] = []
      for (const address of addresses.values()) {
        await goTo(page, address)
        seen.push([address, (await page.locator('h1:visible').textContent())!])
      }
      for (const [address, heading] of seen.toReversed().slice(1)) {
        await page.goBack()
        await page.getByRole('heading', { level: 1, name: heading, exact: true }).waitFor()
        t.ok(page.url().endsWith(address), address)
      }
      await page.goForward()
      await page.getByRole('heading', { level: 1, name: seen[1]![1], exact: true }).waitFor()
      await page.evaluate(`location.hash = '#/no-such-view'`)
      await page.getByRole('heading', { level: 1, name: /no such page/i }).waitFor()
    })
  })

  await t.test('a refresh takes neither focus, nor text, nor selection, nor scroll position', async (t) => {
    const refreshed = (page: Page) =>
      page.waitForResponse((response) => !/\/page\/|\/overview$/.test(response.url()) && response.ok())
    await inTab(
      t,
      browser,
      `${admin}/`,
      { ...operator, viewport: { width: 420, height: 500 } },
      async (page) => {
        // Twenty times as often: what is refreshed every five seconds would take the test minutes.
        await page.addInitScript(
          'const wait = setTimeout; window.setTimeout = (job, ms, ...rest) => wait(job, ms > 500 ? ms / 20 : ms, ...rest)',
        )
        await page.reload()
        for (const [name, address] of addresses) {
          // It asks once: the answer does not change.
          if (name === 'why') continue
          await goTo(page, address)
          // The first of each kind, and the last of all.
          const kinds = ['a[href]', 'section button:enabled', 'select', 'input', 'summary', '[tabindex="0"]']
          for (const kind of kinds) {
            const before = await page.evaluate<string>(`(() => {
            const heading = document.querySelector('#view h2').firstChild
            getSelection().setBaseAndExtent(heading, 0, heading, 3)
            window.chosen = [...document.querySelectorAll('#view ${kind}')].find((one) => one.checkVisibility())
            window.chosen?.focus({ preventScroll: true })
            scrollTo(0, 120)
            return [scrollY, String(getSelection()), 'focus kept'].join()
          })()`)
            for (let i = 0; i < 3; i++) await refreshed(page)
            const after = await page.evaluate<string>(`[
            scrollY, String(getSelection()),
            window.chosen === undefined || !window.chosen.isConnected || document.activeElement === window.chosen
              ? 'focus kept' : 'focus lost',
          ].join()`)
            t.equal(after, before, `${address} ${kind}`)
          }
        }
      },
    )
  })
}
