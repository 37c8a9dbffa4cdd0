// Finds the files of src that no test names: `node scripts/check-tests.mjs [package folder]`.
// A test names a source file if it mirrors it (test/a/b.test.ts for src/a/b.ts), imports it, or has its path in a line of its own:
// `// Tests src/a/b.ts` or `// Tests src/a/{b,c}.ts`. Files that hold nothing but types need no test.
import { existsSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import ts from 'typescript'
import { runCheck, typescriptFiles } from './run-check.mjs'

/** Files, or folders with a slash at the end, that need no test which names them, each with the reason. */
const EXCEPTIONS = {
  'src/config/schema/':
    'data: keys, defaults and descriptions. test/config/generated.test.ts compares them with config/schema.json',
}

/** Folders of test/ whose files are no tests. */
const NO_TESTS = /^test\/(?:support|fixtures)\//
const IMPORT = /\bfrom '(\.[^']*)\.js'|\bimport\('(\.[^']*)\.js'\)/g
const NAMED = /^\/\/ Tests (src\/.*)$/gm

/**
 * Checks a package.
 *
 * @param root folder with src and test
 * @param exceptions reasons by file or folder
 * @returns `{ problems, summary }`: a line for each file that no test names, and for each name and exception that is wrong
 */
export function checkTests(root, exceptions = EXCEPTIONS) {
  const sources = typescriptFiles(join(root, 'src')).map((name) => `src/${name}`)
  const tests = typescriptFiles(join(root, 'test'))
    .map((name) => `test/${name}`)
    .filter((file) => !NO_TESTS.test(file))
  const named = new Set()
  const problems = []
  for (const test of tests) {
    const text = readFileSync(join(root, test), 'utf8')
    named.add(test.replace(/^test\//, 'src/').replace(/\.test\.ts$/, '.ts'))
    for (const [, from, loaded] of text.matchAll(IMPORT))
      named.add(`${posix.join(posix.dirname(test), from ?? loaded)}.ts`)
    for (const file of [...text.matchAll(NAMED)].flatMap(([, list]) => pathsIn(list))) {
      named.add(file)
      if (!existsSync(join(root, file))) problems.push(`${test}: names ${file}, which does not exist`)
    }
  }

  const needed = new Set()
  for (const file of sources) {
    if (named.has(file) || isTypes(readFileSync(join(root, file), 'utf8'))) continue
    const exception = Object.keys(exceptions).find(
      (one) => one === file || (one.endsWith('/') && file.startsWith(one)),
    )
    if (exception !== undefined) needed.add(exception)
    else
      problems.push(
        `${file}: no test names it; write ${mirrorOf(file)}, or name it at the top of the test that covers it: // Tests ${file}`,
      )
  }
  for (const one of Object.keys(exceptions))
    if (!needed.has(one))
      problems.push(`scripts/check-tests.mjs: the exception ${one} is no longer needed; remove it`)
  const summary = `${sources.length} files of src, each named by a test; exceptions: ${Object.keys(exceptions).join(', ')}`
  return { problems, summary }
}

/** Expands `src/a/{b,c}.ts src/d.ts` to three paths. */
function pathsIn(list) {
  return list
    .trim()
    .split(/\s+/)
    .flatMap((path) => {
      const [, before, names, after] = /^(.*)\{(.*)\}(.*)$/.exec(path) ?? []
      return names === undefined ? [path] : names.split(',').map((name) => before + name + after)
    })
}

const mirrorOf = (file) => file.replace(/^src\//, 'test/').replace(/\.ts$/, '.test.ts')

/** Returns true if nothing is left of a file once its types are taken out. */
function isTypes(text) {
  const { outputText } = ts.transpileModule(text, {
    compilerOptions: { target: 'esnext', module: 'esnext', removeComments: true },
  })
  return outputText.replace(/^import .*$/gm, '').trim() === 'export {};'
}

runCheck(import.meta.url, checkTests)
