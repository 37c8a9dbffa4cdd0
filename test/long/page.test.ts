import t from 'tap'
import { noBrowser, startBrowser } from '../support/browser.js'
import { startPageSite } from '../support/page-site.js'
import { testConsumer } from './page/consumer.js'
import { testDialogs } from './page/dialogs.js'
import { testKeyboard } from './page/keyboard.js'
import { testLeftOpen } from './page/left-open.js'
import { testOperators } from './page/operators.js'
import { testOtherSites } from './page/other-sites.js'
import { testPolicy } from './page/policy.js'
import { testShow } from './page/show.js'
import { testSignIn } from './page/sign-in.js'
import { testStates } from './page/states.js'
import { testViews } from './page/views.js'

if (noBrowser !== false) t.plan(0, noBrowser)
else {
  const browser = await startBrowser(t)
  const site = await startPageSite(t)
  await t.test('sign-in', (t) => testSignIn(t, browser))
  await t.test('other sites', (t) => testOtherSites(t, browser))
  await t.test('policy', (t) => testPolicy(t, browser, site))
  await t.test('keyboard', (t) => testKeyboard(t, browser, site))
  await t.test('show', (t) => testShow(t, browser, site))
  await t.test('views', (t) => testViews(t, browser, site))
  await t.test('consumer', (t) => testConsumer(t, browser, site))
  await t.test('operators', (t) => testOperators(t, browser, site))
  await t.test('dialogs', (t) => testDialogs(t, browser, site))
  await t.test('left open', (t) => testLeftOpen(t, browser, site))
  await t.test('states', (t) => testStates(t, browser, site))
}
