import { readFileSync, writeFileSync } from 'node:fs'
import type { Browser } from 'playwright-core'
import type { Test } from 'tap'
import { inTab, seriousFindings } from '../../support/browser.js'
import { goTo, isTooWide, type PageSite, TOKENS } from '../../support/page-site.js'

/** Tests what operators do: limits and routes, a reload, and a fleet of a thousand gateways. */
export async function testOperators(t: Test, browser: Browser, site: PageSite): Promise<void> {
  const admin = `${site.admin[0]!}/`
  const operator = { token: TOKENS.operator, viewport: { width: 420, height: 800 } }

  await t.test('limits are filtered while somebody types, and a link leads to the same', async (t) => {
    await inTab(t, browser, admin, operator, async (page) => {
      await goTo(page, '#/limits')
      const heads = page.locator('#view section h2')
      t.strictSame(await heads.allTextContents(), ['payments', 'reports', 'search'])
      await page.getByText('candidate', { exact: true }).waitFor()
      await page.getByLabel('Service or path').pressSequentially('REFUND')
      await page.getByText('1 service, 1 route', { exact: true }).waitFor()
      t.strictSame(await heads.allTextContents(), ['payments'])
      t.equal(await page.evaluate('document.activeElement.value'), 'REFUND', 'the focus stays')
      t.match(page.url(), /#\/limits\?match=REFUND$/)
      await page.reload()
      await page.getByText('1 service, 1 route', { exact: true }).waitFor()
      t.equal(await page.getByLabel('Service or path').inputValue(), 'REFUND')
    })
  })

  await t.test('a service whose routes are on two pages is one service', async (t) => {
    await inTab(t, browser, admin, operator, async (page) => {
      const route = (path: string) => ({ hosts: [], path, methods: [], cost: 1 })
      const service = { service: 'big', upstreams: 1, on_failure: 'open', maintenance: false, tiers: [] }
      await page.route('**/services?*', (asked) => {
        const isFirst = new URL(asked.request().url()).searchParams.get('after') === '0'
        const routes = isFirst ? [route('/a'), route('/b')] : [route('/c')]
        return asked.fulfill({
          json: { services: [{ ...service, routes }], total: 3, next: isFirst ? '100' : null },
        })
      })
      await goTo(page, '#/limits')
      await page.getByText('1 service, the first 2 of 3 routes', { exact: true }).waitFor()
      await page.getByText('2 routes or more', { exact: true }).waitFor()
      await page.getByRole('button', { name: 'Show more' }).click()
      await page.getByText('1 service, 3 routes', { exact: true }).waitFor()
      t.equal(await page.locator('#view section').count(), 1)
      t.equal(await page.getByRole('button', { name: 'Show more' }).count(), 0)
    })
  })

  await t.test('a reload shows what it changed, its entry of the audit, and who asked for it', async (t) => {
    const [file] = site.configFiles
    const text = readFileSync(file!, 'utf8')
    await inTab(t, browser, admin, operator, async (page) => {
      const reload = async (reason: string) => {
        await page.getByRole('button', { name: 'Reload' }).click()
        await page.getByLabel('Reason, for the audit').fill(reason)
        await page.locator('dialog button[type=submit]').click()
      }
      await goTo(page, '#/config')
      writeFileSync(file!, text.replace('amount: 50000', 'amount: -5'))
      await reload('a mistake')
      await page.locator('dialog').getByText('"-5" is less than 1').waitFor()
      await page.keyboard.press('Escape')
      await page.getByRole('heading', { name: 'The file was rejected' }).waitFor()
      writeFileSync(file!, text)
      await reload('mended')
      await page.locator('dialog').getByText('config.reload config').waitFor()
      await page.locator('dialog').getByText('mended', { exact: true }).waitFor()
      await page.keyboard.press('Escape')
      await page.getByText('valid again, unchanged').first().waitFor()
      t.equal(await page.getByRole('heading', { name: 'The file was rejected' }).count(), 0)
    })
  })

  await t.test('of a thousand gateways, those with trouble come first', async (t) => {
    await inTab(t, browser, admin, operator, async (page) => {
      const at = new Date().toISOString()
      const gateways = Array.from({ length: 1000 }, (_, i) => ({
        ...{
          name: i === 900 ? '<img src=x>\u202e' : `gw-${i}`,
          group: null,
          versions: ['1.0.0'],
          workers: 4,
        },
        ...{ state: i === 900 ? 'degraded' : 'serving', started: at, lag_ms: 0, behind: [] },
        config: { hash: '9ac91de24a50', since: at, others: [], rejected: null, receipts: [] },
        ...{ differs: [], faults: [], requests_per_second: 10 },
      }))
      const unknown = { processes: 3, names: ['old-1'] }
      const problem = null
      const json = { at, node: 'gw-1', gateways, left_out: 7, unknown, libraries: 2, problem }
      await page.route('**/fleet', (asked) => asked.fulfill({ json }))
      await goTo(page, '#/fleet')
      await page.getByText('1,007 gateways · 999 serving · 1 degraded').waitFor()
      const rows = page.locator('section', { hasText: 'Gateways' }).last().locator('tbody tr')
      t.equal(await rows.count(), 100)
      t.match(await rows.first().textContent(), /^<img src=x>\\u\{202e\}.*decides without the store/)
      t.strictSame(await seriousFindings(page), [])
      t.equal(await isTooWide(page), false)
      await page.getByRole('button', { name: 'Show all 1,000' }).click()
      t.equal(await rows.count(), 1000)
      await page.getByLabel('Name, group, version or hash').fill('GW-99')
      t.equal(await rows.count(), 11)
    })
  })
}
