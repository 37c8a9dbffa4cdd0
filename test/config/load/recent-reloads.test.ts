import t from 'tap'
import { type Attempt, type Reload, withReload } from '../../../src/config/load/recent-reloads.js'

function after(...attempts: Partial<Attempt>[]): readonly Reload[] {
  return attempts.reduce<readonly Reload[]>(
    (list, one, at) =>
      withReload(list, {
        ...{ at: at * 1000, result: 'applied', hash: `hash-${at}`, by: 'file', who: null },
        ...{ repaired: false, changed: [], messages: [], ...one },
      }),
    [],
  )
}

t.test('keeps the latest 20, newest first', (t) => {
  const list = after(...Array.from({ length: 30 }, () => ({})))
  t.equal(list.length, 20)
  t.equal(list[0]!.hash, 'hash-29')
  t.equal(list[19]!.at, '1970-01-01T00:00:10.000Z')
  t.end()
})

t.test('leaves out what is no news', (t) => {
  const broken = { result: 'rejected', messages: ['a.yaml:1:1: no'] } as const
  const unchanged = { result: 'unchanged' } as const
  const list = after(unchanged, {}, unchanged, broken, broken, { ...broken, messages: ['a.yaml:2:1: no'] })
  t.same(
    list.map(({ hash }) => hash),
    ['hash-5', 'hash-3', 'hash-1'],
  )
  const mended = after(broken, { ...unchanged, repaired: true }, unchanged, broken)
  t.same(
    mended.map(({ result }) => result),
    ['rejected', 'unchanged', 'rejected'],
  )
  t.end()
})

t.test('bounds what it keeps of one reload', (t) => {
  const lines = Array.from({ length: 300 }, (_, i) => `${i} ${'x'.repeat(5000)}`)
  const { changed, messages } = after({ changed: lines, messages: lines })[0]!
  for (const kept of [changed, messages]) {
    t.equal(kept.length, 21)
    t.equal(kept[0]!.length, 300)
    t.equal(kept[20], 'and 280 more')
  }
  const errors = { result: 'rejected', messages: lines } as const
  t.equal(after(errors, errors).length, 1, 'errors that are cut are still the same')
  t.end()
})
