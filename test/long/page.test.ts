import t from 'tap'
import { noBrowser, startBrowser } from '../support/browser.js'
import { startPageSite } from '../support/page-site.js'
import { testOtherSites } from './page/other-sites.js'
import { testSignIn } from './page/sign-in.js'
import { testViews } from './page/views.js'

if (noBrowser !== false) t.plan(0, noBrowser)
else {
  const browser = await startBrowser(t)
  await t.test('sign-in', (t) => testSignIn(t, browser))
  await t.test('other sites', (t) => testOtherSites(t, browser))
  await t.test('views', async (t) => testViews(t, browser, await startPageSite(t)))
}
