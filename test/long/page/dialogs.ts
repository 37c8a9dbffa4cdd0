import type { Browser, Page } from 'playwright-core'
import type { Test } from 'tap'
import { inTab, seriousFindings } from '../../support/browser.js'
import { isTooWide, type PageSite, TOKENS } from '../../support/page-site.js'

const dialogOf = (page: Page) => page.getByRole('dialog')

/** Tests the dialogs that confirm changes. */
export async function testDialogs(t: Test, browser: Browser, site: PageSite): Promise<void> {
  const admin = site.admin[0]!
  const support = { token: TOKENS.support }
  const read = async (path: string) => {
    const response = await fetch(`${admin}${path}`, { headers: { authorization: `Bearer ${TOKENS.viewer}` } })
    // biome-ignore lint/suspicious/noExplicitAny: tests look into it
    return (await response.json()) as any
  }

  await t.test('a dialog keeps the focus, gives it back, and can be left with Escape', async (t) => {
    await inTab(t, browser, `${admin}/#/consumer/globex`, support, async (page) => {
      await page.getByRole('button', { name: 'Set a tier…' }).focus()
      await page.keyboard.press('Enter')
      await dialogOf(page).waitFor()
      for (let i = 0; i < 12; i++) {
        await page.keyboard.press('Tab')
        const isInside = await page.evaluate(
          `document.activeElement === document.body || document.activeElement.closest('dialog') !== null`,
        )
        t.ok(isInside, `Tab ${i + 1} stays in the dialog`)
      }
      await page.keyboard.press('Escape')
      await dialogOf(page).waitFor({ state: 'detached' })
      t.equal(await page.evaluate('document.activeElement.textContent'), 'Set a tier…')
      t.match(await read('/consumers/globex/tier'), { tier: 'enterprise' }, 'nothing has changed')
    })
  })

  await t.test('a change needs a reason; the dialog shows what the API says against it', async (t) => {
    const options = { ...support, viewport: { width: 420, height: 700 } }
    await inTab(t, browser, `${admin}/#/consumer/wonka`, options, async (page) => {
      await page.getByRole('button', { name: 'Boost…' }).first().click()
      const change = dialogOf(page).getByRole('button', { name: 'Boost', exact: true })
      await change.click()
      t.equal(await dialogOf(page).isVisible(), true)
      t.strictSame(
        (await read('/boosts')).boosts.filter(({ id }: { id: string }) => id === 'wonka'),
        [],
        'nothing has changed',
      )
      await dialogOf(page).getByLabel('Reason').fill('<b>why</b> \u202e')
      await dialogOf(page).getByLabel('For', { exact: true }).fill('a fortnight')
      await change.click()
      await dialogOf(page).getByRole('alert').getByText('"for" is a duration').waitFor()
      t.equal(await isTooWide(page), false)
      t.strictSame(await seriousFindings(page), [])
      await dialogOf(page).getByLabel('For', { exact: true }).fill('1h')
      await change.click()
      await dialogOf(page).getByText('<b>why</b>').waitFor()
      t.strictSame(await seriousFindings(page), [])
      await page.keyboard.press('Escape')
      await dialogOf(page).waitFor({ state: 'detached' })
    })
  })

  await t.test('an operator reloads, and sees what came of it; support cannot', async (t) => {
    await inTab(t, browser, `${admin}/#/config`, { token: TOKENS.operator }, async (page) => {
      await page.getByRole('button', { name: 'Reload' }).click()
      await dialogOf(page).getByLabel('Reason').fill('a test')
      await page.keyboard.press('Enter')
      await dialogOf(page).getByText('The file has not changed.').waitFor()
      await page.keyboard.press('Escape')
    })
    await inTab(t, browser, `${admin}/#/config`, support, async (page) => {
      const button = page.getByRole('button', { name: /Reload/ })
      await button.waitFor()
      t.equal(await button.isDisabled(), true)
      t.match(await button.textContent(), /needs operator/)
    })
  })
}
