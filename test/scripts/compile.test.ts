import { existsSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
// @ts-expect-error a script without types
import { compiledFile, compileSources, compileTests } from '../../scripts/compile.mjs'

const SOURCES = {
  'sum.ts': 'export const sum = (a: number, b: number): number => a + b\n',
  cli: { 'run.ts': "import { sum } from '../sum.js'\nexport const three = sum(1, 2)\n" },
  admin: { page: { 'index.html': '<p>', 'page.js': 'let as_it_is' } },
}

t.test('sources become JavaScript that runs, beside files that are copied as they are', async (t) => {
  const folder = t.testdir({ src: SOURCES })
  await compileSources(folder)
  const { three } = await import(pathToFileURL(join(folder, 'dist/cli/run.js')).href)
  t.equal(three, 3)
  t.equal(readFileSync(join(folder, 'dist/admin/page/index.html'), 'utf8'), '<p>')
  t.equal(readFileSync(join(folder, 'dist/admin/page/page.js'), 'utf8'), 'let as_it_is')
  const map = JSON.parse(readFileSync(join(folder, 'dist/cli/run.js.map'), 'utf8'))
  t.same(map.sources, ['../../src/cli/run.ts'])
})

t.test('a file is compiled again exactly when it has changed, even to an older date', async (t) => {
  const folder = t.testdir({ src: SOURCES })
  await compileSources(folder)
  const compiled = join(folder, 'dist/sum.js')
  const source = join(folder, 'src/sum.ts')
  writeFileSync(compiled, 'export const mark = 1')
  const { mtime } = statSync(source)
  utimesSync(compiled, mtime, mtime)
  await compileSources(folder)
  t.equal(readFileSync(compiled, 'utf8'), 'export const mark = 1', 'its source is as it was')
  utimesSync(source, mtime, new Date(mtime.getTime() - 60_000))
  await compileSources(folder)
  t.match(readFileSync(compiled, 'utf8'), 'const sum =')
})

t.test("output of a deleted source is deleted, and another compiler's output is made anew", async (t) => {
  const folder = t.testdir({ src: SOURCES })
  await compileSources(folder)
  writeFileSync(join(folder, 'dist/sum.d.ts'), '')
  writeFileSync(join(folder, 'dist/cli/run.d.ts'), '')
  rmSync(join(folder, 'src/sum.ts'))
  writeFileSync(join(folder, 'src/cli/run.ts'), 'export const three = 3\n')
  await compileSources(folder)
  t.notOk(['sum.js', 'sum.js.map', 'sum.d.ts'].some((name) => existsSync(join(folder, 'dist', name))))
  t.same(readdirSync(join(folder, 'dist/cli')).sort(), ['run.d.ts', 'run.js', 'run.js.map'])

  const compiled = join(folder, 'dist/cli/run.js')
  const text = readFileSync(compiled, 'utf8')
  const { mtime } = statSync(compiled)
  writeFileSync(compiled, 'of another compiler')
  utimesSync(compiled, mtime, mtime)
  writeFileSync(join(folder, 'dist/.stamp'), 'another compiler')
  await compileSources(folder)
  t.equal(readFileSync(compiled, 'utf8'), text)
})

t.test('a compiled test imports compiled sources, and finds its fixtures beside its source', async (t) => {
  const run = `import type { Test } from 'tap'
import { three } from '../../src/cli/run.js'
export const found = [three, import.meta.url] satisfies unknown
export type Of = Test
`
  const folder = t.testdir({
    src: SOURCES,
    test: { cli: { 'found.ts': run } },
    grafana: { source: { 'a.ts': '' } },
  })
  await compileSources(folder)
  await compileTests(folder)
  const { found } = await import(pathToFileURL(join(folder, 'dist-test/cli/found.js')).href)
  t.same(found, [3, pathToFileURL(join(folder, 'test/cli/found.ts')).href])
})

t.test('a syntax error is reported with file, line and column', async (t) => {
  const folder = t.testdir({ src: { 'bad.ts': 'let a = 1\nconst = 2\n' } })
  await t.rejects(compileSources(folder), { message: /^src\/bad\.ts:2:\d+: Expected identifier/ })
})

t.test('compiledFile names the compiled file of a source', async (t) => {
  t.equal(compiledFile('test/limiter/key.test.ts'), 'dist-test/limiter/key.test.js')
  t.equal(compiledFile('src/cli/tidegate.ts'), 'dist/cli/tidegate.js')
  t.throws(() => compiledFile('bench/run.mjs'), {
    message: 'bench/run.mjs is in none of src, test, grafana/source',
  })
})
