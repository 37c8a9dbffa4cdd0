import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ROOT, readPage, readPages, targetOf } from '../support/pages.js'

const pages = readPages()
const byPath = new Map(pages.map((page) => [page.path, page]))

t.test('every link in the docs leads to an existing file, and to a heading in it', async (t) => {
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

/** Folders whose files the maps name by their path from the root. */
const NAMED = /^(?:src|lua|test|docs|bench|scripts|grafana|deploy|config)\//

/** Returns the paths in backticks on a page; for `NAME.ts`, which a recipe says to create, the folder. */
function pathsOf(page: string): string[] {
  const quoted = [...readPage(page).text.matchAll(/`([^`\s]+)`/g)].map(([, text]) => text!)
  return quoted.filter((text) => NAMED.test(text)).map((path) => path.replace(/NAME\.[\w.]+$/, ''))
}

for (const page of ['ARCHITECTURE.md', 'CONTRIBUTING.md']) {
  t.test(`every path that ${page} names exists`, async (t) => {
    const paths = pathsOf(page)
    t.same(
      paths.filter((path) => !existsSync(join(ROOT, path))),
      [],
    )
    t.ok(paths.length > 3, `${paths.length} paths`)
  })
}

t.test('ARCHITECTURE.md names every room of src, and every part of a room', async (t) => {
  const { text } = readPage('ARCHITECTURE.md')
  const foldersOf = (path: string) =>
    readdirSync(join(ROOT, path), { withFileTypes: true }).filter((entry) => entry.isDirectory())
  for (const { name: room } of foldersOf('src')) {
    const row = text.split('\n').find((line) => line.startsWith(`| \`src/${room}/\``))
    t.ok(row, room)
    for (const { name: part } of foldersOf(`src/${room}`)) {
      t.ok(row?.includes(`\`${part}/\``), `${room}/${part}`)
    }
  }
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

t.test('docs/README.md lists every page of docs once', async (t) => {
  const contents = readPage('docs/README.md')
  const listed = contents.links
    .map(({ to }) => targetOf(contents, to))
    .filter(({ path, fragment }) => fragment === undefined && path.startsWith('docs/'))
    .map(({ path }) => path)
  const there = readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md') && name !== 'README.md')
    .map((name) => `docs/${name}`)
  t.same(listed.sort(), [...there, 'docs/runbook/README.md'].sort())
})

t.test('docs/failure-modes.md names tests that exist', async (t) => {
  const named: string[] = []
  let folder: string | undefined
  for (const line of readPage('docs/failure-modes.md').text.split('\n')) {
    if (!line.startsWith('|')) folder = undefined
    folder = / test in `(\S+?)\/?` \|$/.exec(line)?.[1] ?? folder
    const last = line.split(' | ').at(-1) ?? ''
    if (folder !== undefined && !last.startsWith('test in'))
      for (const [, name] of last.matchAll(/`([^`]+)`/g)) named.push(`${folder}/${name}.test.ts`)
  }
  t.ok(named.length > 20, `${named.length} tests`)
  t.same(
    named.filter((path) => !existsSync(join(ROOT, path))),
    [],
  )
})
