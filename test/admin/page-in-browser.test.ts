// Tests src/admin/page.ts
import t from 'tap'
import { inTab, noBrowser, seriousFindings, startBrowser } from '../support/browser.js'
import { startWhole } from '../support/gateway/whole-gateway.js'

const YAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: the-token-of-the-operators }
log: { access: "off" }
server: { shed: { event_loop_delay: 0 } }
services:
  payments: { upstreams: [http://127.0.0.1:9], limits: { any: 10/min } }
routes: [{ path: /*, service: payments }]
tiers: [any]
default_tier: any
consumers: [{ header: { name: x-user-id, from: anyone } }]
`

// `npm run test:long -- page` has the other tests of the page in a browser.
t.test(
  'in a browser, the page asks for a token, shows the gateway, and breaks no policy',
  { skip: noBrowser },
  async (t) => {
    const { admin } = await startWhole(t, YAML)
    await inTab(t, await startBrowser(t), `${admin}/`, {}, async (page) => {
      await page.getByLabel(/token/i).fill('the-token-of-the-operators')
      await page.keyboard.press('Enter')
      await page.getByText('Serving', { exact: true }).waitFor()
      t.strictSame(await seriousFindings(page), [])
    })
  },
)
