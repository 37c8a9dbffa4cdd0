import type { Browser } from 'playwright-core'
import type { Test } from 'tap'
import { inTab } from '../../support/browser.js'
import { goTo, type PageSite, TOKENS } from '../../support/page-site.js'

/** Shows 2,000 random trees one after the other in one place, and returns the first that differs from a new one. */
const RANDOM_TREES = `import('./page/elements.js').then(({ element, show }) => {
  let seed = 7
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n
  const place = document.body.appendChild(element('div', {}))
  const shuffled = (list) => list.map((one) => [random(1000), one]).sort(([a], [b]) => a - b).map(([, one]) => one)
  function children(depth) {
    const keys = shuffled(['a', 'b', 'c', 'd', 'e', 'f']).slice(random(7))
    const keyed = keys.map((key) => made(depth, key))
    const plain = Array.from({ length: random(3) }, () => (random(2) === 0 ? 'text ' + random(3) : made(depth)))
    return shuffled([...keyed, ...plain, null])
  }
  function made(depth, key) {
    const attributes = { ...(key && { key }), ...(random(2) && { class: 'c' + random(3) }), ...(random(2) && { title: 't' }) }
    return element(['p', 'b'][random(2)], attributes, ...(depth === 0 ? ['end'] : children(depth - 1)))
  }
  for (let i = 0; i < 2000; i++) {
    const state = seed
    show(place, ...children(1))
    seed = state
    const wanted = element('div', {}, ...children(1))
    if (!place.isEqualNode(wanted)) return [i, place.outerHTML, wanted.outerHTML].join('\\n')
  }
  place.remove()
})`

/** Keeps a row in mind while its table is sorted anew and another one leaves. */
const ROWS = `import('./page/elements.js').then(({ element, show }) => {
  const place = document.body.appendChild(element('div', {}))
  const pressed = []
  const rows = (...names) =>
    show(place, ...names.map((name) => element('button', { key: name, click: () => pressed.push(names.length + name) }, name)))
  rows('a', 'b', 'c', 'd')
  const b = place.children[1]
  b.focus()
  rows('d', 'c', 'b')
  b.click()
  const found = { texts: place.textContent, isSame: place.children[2] === b, hasFocus: document.activeElement === b, pressed }
  place.remove()
  return found
})`

/** Puts a field that stays into new trees: where it was, elsewhere, beside others, and into a new parent. */
const KEPT = `import('./page/elements.js').then(({ element, show }) => {
  const place = document.body.appendChild(element('div', {}))
  const field = element('input', {})
  const found = []
  const see = (...children) => {
    show(place, ...children)
    found.push([place.innerHTML, document.activeElement === field].join())
  }
  see(element('p', {}, 'a', field))
  field.focus()
  see(element('p', {}, 'b', field))
  see(element('p', {}, 'c', element('b', {}, 'd'), field))
  see(element('p', {}, element('input', {}), field))
  see(element('div', {}, element('b', {}, field)), 'e')
  see(element('div', {}, element('b', {}, element('input', {}))))
  found.push(field.isConnected)
  place.remove()
  return found
})`

/** Tests how a refresh changes what is there, and the chart. */
export async function testShow(t: Test, browser: Browser, { admin }: PageSite): Promise<void> {
  await inTab(t, browser, `${admin[0]}/`, { token: TOKENS.viewer }, async (page) => {
    await goTo(page, '#/config')
    await t.test('what is shown over something else is as if it were new', async (t) => {
      t.equal(await page.evaluate(RANDOM_TREES), undefined)
    })
    await t.test('a row that moves stays itself, with its focus and a handler of now', async (t) => {
      const wanted = { texts: 'dcb', isSame: true, hasFocus: true, pressed: ['3b'] }
      t.strictSame(await page.evaluate(ROWS), wanted)
    })
  })

  await inTab(t, browser, `${admin[0]}/`, { token: TOKENS.viewer }, async (page) => {
    await goTo(page, '#/config')
    t.strictSame(await page.evaluate(KEPT), [
      '<p>a<input></p>,false',
      '<p>b<input></p>,true',
      '<p>c<b>d</b><input></p>,true',
      '<p><input><input></p>,true',
      '<div><b><input></b></div>e,true',
      '<div><b><input></b></div>,false',
      false,
    ])
  })

  await t.test('the pointer and the keys show the numbers of ten seconds of the chart', async (t) => {
    await inTab(t, browser, `${admin[0]}/`, { token: TOKENS.viewer }, async (page) => {
      const to = Math.floor(Date.now() / 10_000) * 10_000
      const at = (slot: number) => new Date(to - 3_600_000 + slot * 10_000).toISOString()
      const sample = (slot: number) => ({
        ...{ at: at(slot), gateways: 3, shed: slot === 180 ? 9 : 0, without_store: 0 },
        responses: { ok: 10 * slot, client_error: 0, limited: 20, server_error: 0 },
        ...{ p50_ms: 4, p95_ms: 20, p99_ms: null },
      })
      const samples = Array.from({ length: 200 }, (_, i) => sample(i + 100))
      const event = {
        at: at(180),
        node: '<img>',
        gateways: 3,
        kind: 'config_applied',
        text: '\u202ea new file',
      }
      const nodes = { answered: 3, silent: [], problem: null }
      await page.route(/\/history\?/, (route) =>
        route.fulfill({
          json: { from: at(0), to: at(360), every_ms: 10_000, nodes, samples, events: [event] },
        }),
      )
      await goTo(page, '#/')
      const chart = page.getByRole('slider')
      const { x, y, width } = (await chart.boundingBox())!
      await page.mouse.move(x + (width * 180.5) / 360, y + 60)
      const tip = page.locator('.tip')
      t.match(
        await tip.textContent(),
        /182\/s.*429 2\.0\/s.*p95 20 ms.*p99 –.*shed 9.*<img> and 2 more: \\u\{202e\}a new file/,
      )
      await page.mouse.move(0, 0)
      t.equal(await tip.isVisible(), false)
      await chart.focus()
      t.equal(await tip.isVisible(), true)
      for (const key of ['Home', 'PageUp', 'PageUp', 'PageUp', 'ArrowRight', 'ArrowRight', 'ArrowLeft'])
        await page.keyboard.press(key)
      t.equal(await chart.getAttribute('aria-valuenow'), '91')
      t.match(await chart.getAttribute('aria-valuetext'), /no sample/, 'a gap is a gap')
      await page.keyboard.press('Escape')
      t.equal(await tip.isVisible(), false)
      await page.getByText('The last hour as a table').click()
      const rows = page.getByRole('group', { name: 'The last hour by five minutes' }).locator('tbody tr')
      t.equal(await rows.count(), 12)
      t.match(await rows.first().textContent(), /–.*–/)
    })
  })
}
