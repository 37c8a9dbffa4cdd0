import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ROOT, readPages, targetOf } from '../support/pages.js'

const pages = readPages()
const byPath = new Map(pages.map((page) => [page.path, page]))

t.test('every link of README and docs leads to a file that is there, and to a heading in it', async (t) => {
  let checked = 0
  const broken: string[] = []
  for (const page of pages) {
    for (const { to, line } of page.links) {
      if (/^(?:https?|mailto):/.test(to)) continue
      checked++
      const { path, fragment } = targetOf(page, to)
      const place = `${page.path}:${line}: ${to}`
      if (path.startsWith('..') || !existsSync(join(ROOT, path))) broken.push(`${place}: no such file`)
      else if (fragment !== undefined && byPath.get(path)?.anchors.has(fragment) !== true)
        broken.push(`${place}: no such heading`)
    }
  }
  t.same(broken, [])
  t.ok(checked > 50, `${checked} links`)
})

t.test('every page of docs can be reached from README', async (t) => {
  const reached = new Set(['README.md'])
  for (const path of reached) {
    const page = byPath.get(path)
    for (const { to } of page?.links ?? []) if (!to.includes('://')) reached.add(targetOf(page!, to).path)
  }
  t.same(
    pages.map(({ path }) => path).filter((path) => !reached.has(path)),
    [],
  )
})
