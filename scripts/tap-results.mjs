// Raw TAP -> results, shared by the test run and by the count that CI prints.
import { existsSync, readFileSync } from 'node:fs'
import { Parser } from 'tap-parser'

/**
 * Creates a tap-parser that counts leaf tests, which hold no other test. A test that failed although its inner tests passed
 * (an assertion, a timeout, a crash, a file that did not load) counts as one failure.
 *
 * @param onFile called when a test file is done: `{ name, ok, ms, tests }`
 * @param onFailure called where something failed: `{ path, name, diag }`, innermost only
 */
export function tapResults({ onFile = () => {}, onFailure = () => {} } = {}) {
  const results = { passed: 0, failed: 0, skipped: [], failures: [] }

  /** Follows the lines of one test. `close` tells its parent how many tests it held and how many failures were told. */
  function follow(parser, path, close) {
    let inner = 0
    let told = 0
    /** The inner test whose own line comes next; undefined: the next line is a plain assertion. */
    let child
    parser.on('child', (childParser) => {
      inner++
      const before = { ...results }
      follow(childParser, [...path, childParser.name], (innerTests, innerTold) => {
        child = { before, innerTests, innerTold }
      })
    })
    parser.on('assert', ({ ok, name: said, skip, todo, time, diag }) => {
      // tap names a file that took too long only in the diagnostics.
      const name = diag?.expired === undefined ? said : `${diag.expired} took too long`
      const before = child?.before ?? { ...results }
      const isTest = child !== undefined || path.length === 0
      const failed = !ok && !skip && !todo
      if (skip) results.skipped.push([...path, name].join(' > '))
      else if (isTest && ok && !todo && !(child?.innerTests > 0)) results.passed++
      else if (isTest && failed && results.failed === before.failed) {
        results.failed++
        results.failures.push([...path, name].join(' > '))
      }
      if (failed && !(child?.innerTold > 0)) onFailure({ path, name, diag })
      if (failed) told++
      const tests = results.passed + results.failed - before.passed - before.failed
      if (path.length === 0) onFile({ name, ok, ms: time ?? 0, tests })
      child = undefined
    })
    parser.on('complete', () => close(inner, told))
  }

  const parser = new Parser()
  follow(parser, [], () => {})
  return { parser, results }
}

/** Formats `N passed, N failed`, with the skipped tests if there are any. */
export function countLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped.length === 0 ? '' : `, ${skipped.length} skipped`}`
}

/**
 * Counts the tests of several files of raw TAP together. A file in which none passed, or that is not there, counts as a failure: a run
 * that proves nothing must not look like one that proves something.
 *
 * @returns `lines` to print, of which the last is `N passed, N failed`, and `ok`
 */
export function countFiles(files) {
  const total = { passed: 0, failed: 0, skipped: [] }
  const lines = []
  for (const file of files) {
    const { parser, results } = tapResults()
    parser.end(existsSync(file) ? readFileSync(file, 'utf8') : '')
    lines.push(...results.failures.filter((name) => name !== '').map((name) => `failed: ${name}`))
    lines.push(...results.skipped.map((name) => `skipped: ${name}`))
    if (results.passed === 0) lines.push(`no test has passed in ${file}`)
    total.passed += results.passed
    total.failed += results.passed === 0 ? Math.max(1, results.failed) : results.failed
    total.skipped.push(...results.skipped)
  }
  return { lines: [...lines, countLine(total)], ok: total.failed === 0 && total.passed > 0 }
}
