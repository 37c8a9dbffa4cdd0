import type { Browser } from 'playwright-core'
import type { Test } from 'tap'
import { inTab, seriousFindings } from '../../support/browser.js'
import { goTo, isTooWide, type PageSite, TOKENS, VIEW_NAMES } from '../../support/page-site.js'

/** Tests each view for each role, with ids that clients have chosen, and beside thousands of consumers. */
export async function testViews(t: Test, browser: Browser, site: PageSite): Promise<void> {
  const admin = site.admin[0]!
  const addresses = await addressesOf(site)
  t.strictSame([...addresses.keys()].sort(), [...VIEW_NAMES].sort(), 'every view is tested')

  for (const role of ['viewer', 'support', 'operator'] as const) {
    await t.test(`every view for the role ${role}, light and dark, wide and narrow`, async (t) => {
      await inTab(t, browser, `${admin}/`, { token: TOKENS[role] }, async (page) => {
        const refused: string[] = []
        page.on('response', (response) => {
          if (response.status() >= 400) refused.push(`${response.status()} ${response.url()}`)
        })
        for (const address of addresses.values()) {
          await goTo(page, address)
          t.equal(await page.locator('#problem').isVisible(), false, `${address} shows no problem`)
          t.match(await page.title(), /\S – Tidegate$/, `${address} has a title`)
          t.equal(
            await page.locator('h1:visible').count(),
            1,
            `${address} has one heading of the first level`,
          )
          for (const [colorScheme, width] of [
            ['light', 1280],
            ['dark', 420],
          ] as const) {
            await page.emulateMedia({ colorScheme })
            await page.setViewportSize({ width, height: 800 })
            t.strictSame(await seriousFindings(page), [], `${address} ${colorScheme}`)
            t.equal(await isTooWide(page), false, `${address} needs no scrolling sideways at ${width}`)
          }
          t.equal(
            await page.locator('#view button:enabled:has(.needs)').count(),
            0,
            `${address} offers nothing more`,
          )
          if (role === 'operator')
            t.equal(await page.locator('#view .needs').count(), 0, `${address} offers all`)
        }
        t.strictSame(refused, [], 'the page asks for nothing that the role may not see')
      })
    })
  }

  await t.test('every view at twice the size needs no scrolling sideways', async (t) => {
    // A window of 1280 by 800 at 200 %.
    const options = { token: TOKENS.operator, viewport: { width: 640, height: 400 }, deviceScaleFactor: 2 }
    await inTab(t, browser, `${admin}/`, options, async (page) => {
      for (const address of addresses.values()) {
        await goTo(page, address)
        t.equal(await isTooWide(page), false, address)
      }
    })
  })

  await t.test('ids that clients have chosen are shown as text, and lead to their own page', async (t) => {
    const ids = [
      '<img src=x onerror=alert(1)>',
      '"><script>alert(1)</script>',
      '../../config',
      '..',
      '.',
      'a/b',
      'user%2F42',
      '100%',
      'a#b?c=d&e',
      '\u202egpj.exe',
      'zero\u200bwidth',
      'x'.repeat(1024),
      '__proto__',
      'constructor',
      "it's; DROP TABLE",
      '日本語 🦊',
      ' ',
    ]
    await Promise.all(ids.map((id) => site.askAs('/payments/1', id)))
    await inTab(
      t,
      browser,
      `${admin}/`,
      { token: TOKENS.support, viewport: { width: 420, height: 800 } },
      async (page) => {
        const strange: string[] = []
        page.on('request', (request) => {
          const { pathname } = new URL(request.url())
          if (
            !/^\/(?:$|page\/|consumers\/[^/]+$|overview$|top$|history$|audit$|whoami$|decisions\/[^/]+$)/.test(
              pathname,
            )
          )
            strange.push(pathname)
        })
        page.on('dialog', (dialog) => {
          strange.push(dialog.message())
          dialog.dismiss()
        })
        for (const id of [...ids, '\ud800', 'y'.repeat(2000)]) {
          for (const view of ['consumer', 'why'].filter((name) => VIEW_NAMES.includes(name))) {
            await goTo(page, `#/${view}/${encodeURIComponent(id.toWellFormed())}`)
            t.equal(await isTooWide(page), false, `${view} ${id.slice(0, 40)}`)
          }
        }
        // Not encoded, as somebody may type it.
        for (const raw of [
          '%',
          '%ff',
          '%00',
          '\ud800',
          '<img src=x>',
          '../x',
          '//evil.example/',
          'javascript:alert(1)',
        ]) {
          await goTo(page, `#/consumer/${raw}`)
          t.equal(await page.locator('h1:visible').count(), 1, raw)
        }
        t.strictSame(strange, [])
        await goTo(page, '#/')
        t.equal(await page.locator('#view img, #view script').count(), 0)
      },
    )
  })

  await t.test('traffic of 10,000 consumers leaves the overview quick', async (t) => {
    for (let i = 0; i < 10_000; i += 500)
      await Promise.all(Array.from({ length: 500 }, (_, j) => site.askAs('/search', `consumer-${i + j}`)))
    await inTab(t, browser, `${admin}/`, { token: TOKENS.viewer }, async (page) => {
      await goTo(page, '#/')
      await page.getByRole('button', { name: 'Costing most' }).click()
      await page.locator('#view tbody tr:visible').first().waitFor()
      const nodes = await page.evaluate<number>('document.querySelectorAll("*").length')
      t.ok(nodes < 5000, `${nodes} elements`)
      t.strictSame(await seriousFindings(page), [])
    })
  })
}

/** Returns an address of each view: one that says something. */
export async function addressesOf(site: PageSite): Promise<Map<string, string>> {
  const all = new Map([
    ['', '#/'],
    ['consumer', '#/consumer/acme'],
    ['why', `#/why/${await deniedRequest(site)}`],
    ['limits', '#/limits'],
    ['upstreams', '#/upstreams'],
    ['config', '#/config'],
    ['fleet', '#/fleet'],
  ])
  for (const name of all.keys()) if (!VIEW_NAMES.includes(name)) all.delete(name)
  return all
}

/** Sends requests of a consumer of the smallest tier until one is denied. Resolves with its id. */
export async function deniedRequest(site: PageSite, consumer = 'umbrella'): Promise<string> {
  for (let i = 0; i < 200; i++) {
    const { status, id } = await site.ask('/payments/1', consumer)
    if (status === 429) return id!
  }
  throw new Error('no request was denied')
}
