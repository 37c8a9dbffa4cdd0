import type { Browser } from 'playwright-core'
import type { Test } from 'tap'
import { inTab } from '../../support/browser.js'
import { eventually } from '../../support/eventually.js'
import { goTo, type PageSite, TOKENS } from '../../support/page-site.js'

/** Refreshes of each view: more than half an hour of them. */
const REFRESHES = 1000

/** Tests a page that is left open for hours. */
export async function testLeftOpen(t: Test, browser: Browser, site: PageSite): Promise<void> {
  for (const address of ['#/', '#/consumer/acme']) {
    await t.test(`${address} left open takes no more and more memory`, async (t) => {
      await inTab(t, browser, `${site.admin[0]}/`, { token: TOKENS.viewer }, async (page) => {
        // Seconds of the page are milliseconds here.
        await page.addInitScript(
          'const wait = setTimeout; window.setTimeout = (job, ms, ...rest) => wait(job, ms > 500 ? ms / 1000 : ms, ...rest)',
        )
        await page.reload()
        await goTo(page, address)
        let refreshes = 0
        page.on('response', (response) => {
          if (/\/top|\/consumers\//.test(response.url())) refreshes++
        })
        const session = await page.context().newCDPSession(page)
        await session.send('Performance.enable')
        const measure = async () => {
          await session.send('HeapProfiler.collectGarbage')
          const { metrics } = await session.send('Performance.getMetrics')
          const of = (name: string) => metrics.find((one) => one.name === name)!.value
          return { heap: of('JSHeapUsedSize'), nodes: of('Nodes'), listeners: of('JSEventListeners') }
        }
        await eventually('it is warm', () => refreshes > REFRESHES / 5, 120_000)
        const before = await measure()
        await eventually('it was open for long', () => refreshes > REFRESHES, 240_000)
        const after = await measure()
        t.comment(JSON.stringify({ address, refreshes, before, after }))
        t.ok(after.heap < before.heap * 1.3 + 1_000_000, `heap ${before.heap} → ${after.heap}`)
        t.ok(after.nodes < before.nodes * 1.3 + 500, `nodes ${before.nodes} → ${after.nodes}`)
        t.ok(
          after.listeners < before.listeners * 1.3 + 100,
          `listeners ${before.listeners} → ${after.listeners}`,
        )
      })
    })
  }
}
