import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ROOT } from '../support/pages.js'

interface Checked {
  readonly problems: readonly string[]
  readonly summary: string
}
const { checkTests }: { checkTests(root: string, exceptions?: Record<string, string>): Checked } =
  await import(join(ROOT, 'scripts/check-tests.mjs'))

/** The compile step changes paths in a test that lead to src. */
const SRC = 'src'

/** Returns a package with one source file, which has behaviour, and one test. */
function packageOf(t: Test, testName: string, text: string): string {
  const [folder = '', name = ''] = testName.split('/')
  return t.testdir({
    src: { net: { 'a.ts': 'export const a = 1', 'b.ts': 'export interface B { readonly b: 1 }' } },
    test: { [folder]: { [name]: text } },
  })
}

t.test('a test names a source file by its place, an import, or a line of its own', async (t) => {
  for (const [name, text] of [
    ['net/a.test.ts', ''],
    ['e2e/x.test.ts', `import { a } from '../../${SRC}/net/a.js'`],
    ['e2e/x.test.ts', `const { a } = await import('../../${SRC}/net/a.js')`],
    ['e2e/x.test.ts', '// Tests src/net/a.ts'],
    ['e2e/x.test.ts', '// Runs alone: it says so.\n// Tests src/net/{a,b}.ts src/net/b.ts'],
  ] as const) {
    t.strictSame(checkTests(packageOf(t, name, text), {}).problems, [], `${name}: ${text}`)
  }
})

t.test('a file that no test names is a problem, and the message says what to do', async (t) => {
  for (const [name, text] of [
    ['net/other.test.ts', ''],
    ['support/a.ts', `import { a } from '../../${SRC}/net/a.js'`],
    ['e2e/x.test.ts', 'it is in src/net/a.ts'],
  ] as const) {
    t.strictSame(checkTests(packageOf(t, name, text), {}).problems, [
      'src/net/a.ts: no test names it; write test/net/a.test.ts, or name it at the top of the test that covers it: // Tests src/net/a.ts',
    ])
  }
})

t.test('an exception holds for a file or a folder, and is a problem once nothing needs it', async (t) => {
  const none = packageOf(t, 'net/other.test.ts', '')
  t.strictSame(checkTests(none, { 'src/net/': 'data' }).problems, [])
  t.strictSame(checkTests(none, { 'src/net/a.ts': 'data' }).problems, [])
  const named = packageOf(t, 'net/a.test.ts', '')
  t.strictSame(checkTests(named, { 'src/net/': 'data' }).problems, [
    'scripts/check-tests.mjs: the exception src/net/ is no longer needed; remove it',
  ])
})

t.test('a test that names a file which does not exist is a problem', async (t) => {
  const root = packageOf(t, 'net/a.test.ts', '// Tests src/net/c.ts')
  t.strictSame(checkTests(root, {}).problems, [
    'test/net/a.test.ts: names src/net/c.ts, which does not exist',
  ])
})
