// Tests src/admin/page/{consumer,why,hours}.js
import type { Browser, Page } from 'playwright-core'
import type { Test } from 'tap'
import { inTab, seriousFindings } from '../../support/browser.js'
import { configOf, startAdmin } from '../../support/gateway/admin.js'
import { goTo, type PageSite, TOKENS } from '../../support/page-site.js'
import { deniedRequest } from './views.js'

/** Tests what support and operators do on the page of a consumer, up to the entry of the audit. */
export async function testConsumer(t: Test, browser: Browser, site: PageSite): Promise<void> {
  const admin = site.admin[0]!

  await t.test('why a consumer is limited, and an hour more for it, takes four clicks', async (t) => {
    await deniedRequest(site, 'soylent')
    await inTab(t, browser, `${admin}/`, { token: TOKENS.support }, async (page) => {
      await page.locator('a[href="#/consumer/soylent"]').first().click()
      await page.getByText(/Limited .* Denied: the limit "minute" \(20\/min\) of soylent/).waitFor()
      await page.locator('.limit').first().getByRole('button', { name: 'Boost…' }).click()
      const dialog = page.getByRole('dialog')
      t.equal(await dialog.locator('input[name=for]').inputValue(), '1h')
      t.equal(await dialog.getByLabel('How much more').inputValue(), '20', 'as much again')
      await dialog.getByLabel('Reason').fill('ticket 4711: 名')
      await dialog.getByRole('button', { name: 'Boost', exact: true }).click()
      await dialog.getByText('boost.set payments/minute/consumer/soylent').waitFor()
      t.match(
        await dialog.innerText(),
        /audit entry\s+\d+-\d+[\s\S]+who\s+sam[\s\S]+reason\s+ticket 4711: 名/,
      )
      await dialog.getByRole('button', { name: 'Close' }).click()
      await dialog.waitFor({ state: 'detached' })
      await page.getByText(/the tier allows 20, and a boost 20 more/).waitFor()
      t.equal(await focused(page), 'Boost…')
      const row = sectionOf(page, 'Changes by operators').locator('tbody tr').first()
      await row.getByText('ticket 4711: 名').waitFor()
      t.match(await row.textContent(), /sam.*boost\.set payments\/minute\/consumer\/soylent.*by 20, until/)
      await page.locator('.limit').first().getByRole('button', { name: 'Boost…' }).click()
      t.equal(
        await dialog.getByLabel('How much more').inputValue(),
        '40',
        'more than the boost that it replaces',
      )
      await dialog.getByText('It replaces the boost of 20.').waitFor()
    })
  })

  await t.test('every change of a consumer can be made, and taken back', async (t) => {
    await inTab(t, browser, `${admin}/`, { token: TOKENS.operator }, async (page) => {
      await goTo(page, '#/consumer/initech')
      const change = changer(t, page)
      const limits = sectionOf(page, 'Limits')
      const amounts = sectionOf(page, 'Boosts and')
      await change('Set a tier…', 'tier.set initech', async (dialog) => {
        await dialog.getByLabel('Tier').selectOption('enterprise')
      })
      await page.getByText('assigned by an operator').waitFor()
      await change('Remove the assignment…', 'tier.remove initech')
      await page.getByText('assigned by an operator').waitFor({ state: 'detached' })
      await change('Override…', 'override.set payments/minute/consumer/initech', async (dialog) => {
        await dialog.getByLabel('Amount').fill('700')
      })
      await limits.getByText('override 700 of 300').waitFor()
      await change('Boost…', 'boost.set payments/minute/consumer/initech')
      await amounts.getByText('700 more').waitFor()
      await change('Remove…', 'boost.remove payments/minute/consumer/initech')
      await change('Remove…', 'override.remove payments/minute/consumer/initech')
      await amounts.getByText('Every limit allows what the tier allows').waitFor()
      t.equal(await focused(page), 'Boosts and overrides', 'the row that had the button is gone')
      await change('Reset usage…', 'usage.reset payments/initech')
    })
  })

  await t.test('a key is revoked, and a change that is refused says why in the dialog', async (t) => {
    const made = await fetch(`${admin}/keys`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKENS.operator}`, 'content-type': 'application/json' },
      body: JSON.stringify({ consumer: 'hooli', name: 'batch jobs' }),
    })
    const { id } = (await made.json()) as { id: string }
    await inTab(t, browser, `${admin}/`, { token: TOKENS.support }, async (page) => {
      await goTo(page, '#/consumer/hooli')
      const keys = sectionOf(page, 'API keys')
      await keys.getByText('batch jobs').waitFor()
      await changer(t, page)('Revoke…', `key.revoke hooli/${id}`)
      await keys.getByText('batch jobs').waitFor({ state: 'detached' })
      await page.getByRole('button', { name: 'Boost…' }).first().click()
      const dialog = page.getByRole('dialog')
      await dialog.locator('input[name=for]').fill('soon')
      await dialog.getByLabel('Reason').fill('ticket 4711')
      await dialog.getByRole('button', { name: 'Boost', exact: true }).click()
      await dialog.getByText('"for" is a duration').waitFor()
    })
  })

  await t.test('an address is banned and let in again, beside a hundred services', async (t) => {
    const services = Array.from(
      { length: 102 },
      (_, i) => `  s-${i}: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min } }\n`,
    )
    const { port } = await startAdmin(t, {
      config: configOf(
        `tiers: [free]\nservices:\n${services.join('')}routes: [{ path: /*, service: s-0 }]\nconsumers: [ip: {}]\n`,
      ),
    })
    await inTab(t, browser, `http://127.0.0.1:${port}/#/consumer/2001:db8::7`, {}, async (page) => {
      await page.getByText('2001:db8:0:0::/64').waitFor()
      await page.getByText('2 more services are not shown').waitFor()
      t.equal(await page.locator('.service:visible').count(), 0, 'services that it does not use are folded')
      await page.getByText('100 services of which nothing is used').click()
      t.equal(await page.locator('.service:visible').count(), 100)
      const change = changer(t, page)
      await change('Ban the address…', 'ban.set 2001:db8::/64')
      await change('Lift…', 'ban.remove 2001:db8::/64')
      await page.getByText('No ban holds for this address').waitFor()
      t.equal(await page.locator('.service:visible').count(), 100, 'what was unfolded stays so')
      t.strictSame(await seriousFindings(page), [])
    })
  })

  await t.test('the search finds requests and consumers', async (t) => {
    const id = await deniedRequest(site, 'cyberdyne')
    await inTab(t, browser, `${admin}/`, { token: TOKENS.viewer }, async (page) => {
      const find = async (text: string) => {
        await page.getByLabel('Consumer or request id').fill(text)
        await page.getByRole('button', { name: 'Find' }).click()
      }
      await find(id)
      await page.getByRole('heading', { name: `Request ${id}` }).waitFor()
      await page
        .locator('.lead')
        .getByText(/^Denied: .+ of cyberdyne/)
        .waitFor()
      await page.locator('#view a[href="#/consumer/cyberdyne"]').click()
      await page.getByRole('heading', { name: 'Consumer cyberdyne' }).waitFor()
      await find('no-such-request')
      await page.getByRole('heading', { name: 'Consumer no-such-request' }).waitFor()
      await page.getByText('Nothing is known of this id').waitFor()
      await goTo(page, '#/why/no-such-request')
      await page.getByText('No gateway has a decision for no-such-request').waitFor()
    })
  })
}

const sectionOf = (page: Page, title: string) =>
  page.locator('section', { has: page.locator('h2', { hasText: title }) })

const focused = (page: Page) => page.evaluate<string>('document.activeElement.textContent')

/** Returns a function that makes a change: opens its dialog, gives a reason, confirms, and closes the audit entry. */
function changer(t: Test, page: Page) {
  const dialog = page.getByRole('dialog')
  return async (button: string, entry: string, fill?: (form: typeof dialog) => Promise<unknown>) => {
    await page.locator('#view').getByRole('button', { name: button }).first().click()
    await fill?.(dialog)
    await dialog.getByLabel('Reason').fill('ticket 4711')
    await dialog.locator('button[type=submit]').click()
    await dialog.getByText(entry).waitFor()
    t.match(await dialog.innerText(), /reason\s+ticket 4711/, entry)
    await dialog.getByRole('button', { name: 'Close' }).click()
    await dialog.waitFor({ state: 'detached' })
  }
}
