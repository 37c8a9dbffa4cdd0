import type { Browser } from 'playwright-core'
import type { Test } from 'tap'
import { inTab, seriousFindings, TOKEN_KEY } from '../../support/browser.js'
import { startWhole } from '../../support/gateway/whole-gateway.js'
import { goTo, isTooWide } from '../../support/page-site.js'

const TOKEN = 'the-token-of-the-operators'
const YAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: ${TOKEN} }
log: { access: "off" }
server: { shed: { event_loop_delay: 0 } }
services:
  payments: { upstreams: [http://127.0.0.1:9], limits: { any: 10/min } }
routes: [{ path: /*, service: payments }]
tiers: [any]
default_tier: any
consumers: [{ header: { name: x-user-id, from: anyone } }]
`

/** Tests who gets in, and what the page keeps. */
export async function testSignIn(t: Test, browser: Browser): Promise<void> {
  const { admin } = await startWhole(t, YAML)
  const serving = { name: 'Serving' }

  await t.test('a token is kept in the tab until it is forgotten', async (t) => {
    await inTab(t, browser, `${admin}/#/upstreams`, {}, async (page) => {
      const field = page.getByLabel(/token/i)
      await field.waitFor()
      t.equal(
        await field.evaluate((node) => node === node.ownerDocument.activeElement),
        true,
        'ready to type',
      )
      t.equal(await field.getAttribute('type'), 'password')
      t.strictSame(await seriousFindings(page), [])
      t.equal(await isTooWide(page), false)
      await field.fill(TOKEN)
      await page.keyboard.press('Enter')
      await page.getByRole('heading', { level: 1, name: 'Upstreams' }).waitFor()
      t.notMatch(page.url(), /token/, 'the address does not have it')
      await page.reload()
      await page.getByRole('heading', { level: 1, name: 'Upstreams' }).waitFor()
      t.strictSame(await page.context().cookies(), [])
      t.equal(await page.evaluate('localStorage.length'), 0)
      await page.getByRole('button', { name: 'Sign out' }).click()
      await field.waitFor()
      t.equal(await page.evaluate(`sessionStorage.getItem('${TOKEN_KEY}')`), null)
      t.equal(await page.locator('#view').count(), 0, 'nothing of the gateway is left on the page')
    })
  })

  await t.test('a wrong token, one that no header can hold, and one that was revoked', async (t) => {
    await inTab(t, browser, `${admin}/`, { token: 'a-token-that-was-revoked' }, async (page) => {
      const field = page.getByLabel(/token/i)
      await field.waitFor()
      await page.locator('#problem').getByText('no token of this gateway').waitFor()
      for (const wrong of ['wrong-token', 'schlüssel', 'two words']) {
        await field.fill(wrong)
        await page.keyboard.press('Enter')
        await page.locator('#problem').getByText('no token of this gateway').waitFor()
      }
      t.strictSame(await seriousFindings(page), [])
      await field.fill(TOKEN)
      await page.keyboard.press('Enter')
      await page.getByText(serving.name, { exact: true }).waitFor()
      t.equal(await page.locator('#problem').isVisible(), false, 'the error is gone')
    })
  })

  await t.test('a token that expires while the page is open leads to the sign-in', async (t) => {
    await inTab(t, browser, `${admin}/`, { token: TOKEN }, async (page) => {
      await goTo(page, '#/')
      const json = {
        status: 401,
        code: 'unauthorized',
        detail: 'The token has expired; get another from your identity provider.',
      }
      await page.route(/\/(?:overview|top|history)/, (route) => route.fulfill({ status: 401, json }))
      await page.getByLabel(/token/i).waitFor()
      t.equal(await page.locator('#view').count(), 0, 'nothing of the gateway is left on the page')
      await page.locator('#problem:not([hidden])').waitFor()
    })
  })

  await t.test('after ten wrong tokens the page says how long to wait', async (t) => {
    const { admin } = await startWhole(t, YAML)
    for (let i = 0; i < 10; i++)
      await fetch(`${admin}/overview`, { headers: { authorization: `Bearer wrong-token-${i}` } })
    await inTab(t, browser, `${admin}/`, {}, async (page) => {
      await page.getByLabel(/token/i).fill(TOKEN)
      await page.keyboard.press('Enter')
      await page
        .locator('#problem')
        .getByText(/wrong tokens|wait|again/i)
        .waitFor()
      t.equal(await page.getByLabel(/token/i).isVisible(), true)
    })
  })

  await t.test('where no token is needed, none is asked for', async (t) => {
    const open = await startWhole(t, YAML.replace(`, token: ${TOKEN}`, ''))
    await inTab(t, browser, `${open.admin}/`, {}, async (page) => {
      await page.getByText(serving.name, { exact: true }).waitFor()
      await page.locator('#view:not([hidden])').waitFor()
      t.equal(await page.getByLabel(/token/i).isVisible(), false)
      t.equal(await page.getByRole('button', { name: 'Sign out' }).isVisible(), false)
      // A gateway that has had no request: the views have nothing to show.
      for (const link of await page.getByRole('navigation').getByRole('link').all()) {
        await goTo(page, (await link.getAttribute('href'))!)
        t.equal(await page.locator('#problem').isVisible(), false)
        t.strictSame(await seriousFindings(page), [], `${await link.textContent()}, empty`)
      }
    })
  })
}
