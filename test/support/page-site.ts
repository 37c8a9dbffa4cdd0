import { readFileSync } from 'node:fs'
import type { Page } from 'playwright-core'
import type { Test } from 'tap'
// @ts-expect-error a script without types
import * as site from '../../scripts/page/site.mjs'

/** A running fleet of scripts/page/site.mjs. */
export interface PageSite {
  /** Base URLs of the admin APIs. */
  readonly admin: readonly string[]
  readonly configFiles: readonly string[]
  readonly redis: { readonly child: { kill(signal: NodeJS.Signals): boolean } }
  /** Sends a request with the key of a consumer, or as any id. */
  ask(path: string, consumer: string): Promise<{ status: number; id?: string }>
  askAs(path: string, id: string): Promise<{ status: number; id?: string }>
}

export const TOKENS: Readonly<Record<'viewer' | 'support' | 'operator', string>> = site.TOKENS

/** Starts two gateways with traffic and changes, and stops them at the end of the test. */
export async function startPageSite(t: Test): Promise<PageSite> {
  const started = await site.startSite({ instances: ['gw-fra-1', 'gw-ams-1'], perSecond: 20 })
  t.teardown(() => started.stop())
  await site.changeThings(started.admin[0])
  return started
}

/** Names of the views, as views.js lists them. */
export const VIEW_NAMES: readonly string[] = [
  ...readFileSync(new URL('../../src/admin/page/views.js', import.meta.url), 'utf8').matchAll(
    /name: '(\w*)'/g,
  ),
].map(([, name]) => name!)

/** Leads the page to an address, and waits until the view there has shown something, or the page has said why not. */
export async function goTo(page: Page, address: string): Promise<void> {
  // A number that the shell does not know: the view before is not the one that is waited for.
  await page.evaluate(`document.getElementById('view')?.setAttribute('data-left', '')`)
  await page.evaluate(`location.hash = ${JSON.stringify(address)}`)
  await page
    .locator('#view:not([data-left]):not([hidden]), #problem:not([hidden])')
    .first()
    .waitFor({ state: 'visible' })
}

/** Returns true if the page is wider than its window, so that a reader would have to scroll sideways. */
export async function isTooWide(page: Page): Promise<boolean> {
  return page.evaluate('document.documentElement.scrollWidth > document.documentElement.clientWidth')
}
