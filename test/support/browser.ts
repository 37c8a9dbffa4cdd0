import axe from 'axe-core'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import type { Test } from 'tap'
// @ts-expect-error a script without types
import { findChromium, NO_CHROMIUM } from '../../scripts/page/chromium.mjs'

const executablePath: string | undefined = findChromium()

/** Reason to skip tests that need a browser; false if there is one. */
export const noBrowser: string | false = executablePath === undefined && NO_CHROMIUM

/** Key under which the page keeps its token in the tab. */
export const TOKEN_KEY = 'tidegate admin token'

/** Starts a browser, in which `evil.example` leads to this machine, and closes it at the end of the test. */
export async function startBrowser(t: Test): Promise<Browser> {
  const args = ['--host-resolver-rules=MAP evil.example 127.0.0.1']
  const browser = await chromium.launch({ executablePath: executablePath!, args })
  t.teardown(() => browser.close())
  return browser
}

export interface OpenOptions extends BrowserContextOptions {
  /** Token that the tab has already. */
  readonly token?: string
  /** Set for pages of others, which break no policy of ours, and for a test of a bug. */
  readonly faults?: 'allowed'
}

/**
 * Opens an address in a window with cookies and storage of its own, and runs the test there. Fails it if the page broke its content
 * security policy or logged an error. Refused requests, which the browser logs itself, are no errors.
 */
export async function inTab(
  t: Test,
  browser: Browser,
  url: string,
  { token, faults: allowed, ...options }: OpenOptions,
  body: (page: Page, faults: readonly string[]) => Promise<void>,
): Promise<void> {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options })
  try {
    const page = await context.newPage()
    const faults: string[] = []
    await page.exposeBinding('tellViolation', (_, text: string) => faults.push(text))
    await page.addInitScript(
      `addEventListener('securitypolicyviolation', (event) =>
         tellViolation('CSP: ' + event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample))`,
    )
    if (token !== undefined)
      await page.addInitScript(`sessionStorage.setItem('${TOKEN_KEY}', ${JSON.stringify(token)})`)
    page.on('console', (message) => {
      const text = message.text()
      if (['error', 'warning'].includes(message.type()) && !text.startsWith('Failed to load resource'))
        faults.push(text)
    })
    page.on('pageerror', (error) => faults.push(String(error)))
    await page.goto(url)
    await body(page, faults)
    if (allowed === undefined) t.strictSame(faults, [], 'the page broke no policy and logged no error')
  } finally {
    await context.close()
  }
}

/**
 * Returns what axe-core finds serious or critical on the page as it is. It runs in a world of its own, which the content security
 * policy of the page does not govern.
 */
export async function seriousFindings(page: Page): Promise<string[]> {
  const session = await page.context().newCDPSession(page)
  const { frameTree } = await session.send('Page.getFrameTree')
  const world = await session.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id })
  const contextId = world.executionContextId
  await session.send('Runtime.evaluate', { contextId, expression: axe.source })
  const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
    contextId,
    awaitPromise: true,
    returnByValue: true,
    expression: `axe.run().then(({ violations }) => violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .flatMap(({ id, nodes }) => nodes.map(({ html, any }) => id + ': ' + html.slice(0, 200) + ' ' + (any[0]?.message ?? ''))))`,
  })
  await session.detach()
  if (exceptionDetails !== undefined) throw new Error(`axe failed: ${exceptionDetails.text}`)
  const found = result.value as string[]
  // A color that is wrong is wrong in each cell.
  return found.length > 10 ? [...found.slice(0, 10), `and ${found.length - 10} more`] : found
}
