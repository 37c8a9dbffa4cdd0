import { readFileSync } from 'node:fs'
import t from 'tap'
// @ts-expect-error a script without types
import { readAudit } from '../../scripts/audit.mjs'
// @ts-expect-error a script without types
import { bill, licencePage, licenceProblems, lockProblems } from '../../scripts/dependencies.mjs'

const root = new URL('../../', import.meta.url)
const read = (name: string) => JSON.parse(readFileSync(new URL(name, root), 'utf8'))
const manifest = read('package.json')
const lock = read('package-lock.json')

const GOOD = 'sha512-AAAA'
const MANIFEST = { name: 'x', version: '1.0.0', license: 'MIT', dependencies: { a: '^1.0.0' } }

/** Returns a lockfile of one package, with changes. */
const lockOf = (change: object = {}, more: object = {}) => ({
  lockfileVersion: 3,
  packages: {
    '': MANIFEST,
    'node_modules/a': { version: '1.0.1', integrity: GOOD, license: 'MIT', ...change },
    ...more,
  },
})

t.test('every package is in the version that was chosen', async (t) => {
  t.strictSame(lockProblems(manifest, lock), [])
  t.strictSame(
    lockProblems(read('bench/package.json'), read('bench/package-lock.json')),
    [],
    'the peers of the bench, too',
  )
})

t.test('a lockfile that would install something else is reported', async (t) => {
  t.strictSame(lockProblems(MANIFEST, lockOf()), [])
  t.strictSame(lockProblems(MANIFEST, lockOf({ resolved: 'https://registry.npmjs.org/a/-/a-1.0.1.tgz' })), [])
  const wrong: [what: string, problems: string[], pattern: RegExp][] = [
    [
      'from git',
      lockProblems(MANIFEST, lockOf({ resolved: 'git+ssh://git@github.com/a/a.git#1' })),
      /not from the registry/,
    ],
    [
      'from elsewhere',
      lockProblems(MANIFEST, lockOf({ resolved: 'https://example.com/a.tgz' })),
      /not from the registry/,
    ],
    [
      'without TLS',
      lockProblems(MANIFEST, lockOf({ resolved: 'http://registry.npmjs.org/a.tgz' })),
      /not from the registry/,
    ],
    ['without a hash', lockProblems(MANIFEST, lockOf({ integrity: undefined })), /no SHA-512/],
    ['with a weak hash', lockProblems(MANIFEST, lockOf({ integrity: 'sha1-AAAA' })), /no SHA-512/],
    ['a folder', lockProblems(MANIFEST, lockOf({ link: true, resolved: '../a' })), /link to a folder/],
    ['a program at install', lockProblems(MANIFEST, lockOf({ hasInstallScript: true })), /runs a program/],
    [
      'behind package.json',
      lockProblems({ ...MANIFEST, dependencies: { a: '^2.0.0' } }, lockOf()),
      /package\.json says \^2/,
    ],
    [
      'without one of them',
      lockProblems({ ...MANIFEST, devDependencies: { b: '^1.0.0' } }, lockOf()),
      /b: .*nothing; run/,
    ],
    [
      'a hook of our own',
      lockProblems({ ...MANIFEST, scripts: { postinstall: 'x' } }, lockOf()),
      /the script postinstall/,
    ],
  ]
  for (const [what, problems, pattern] of wrong) {
    t.ok(
      problems.some((line) => pattern.test(line)),
      `${what}: ${problems}`,
    )
  }
})

t.test('every licence is an allowed one', async (t) => {
  t.strictSame(licenceProblems(lock), [])
  for (const license of ['MIT', '(MIT OR GPL-3.0-only)', 'MIT AND ISC']) {
    t.strictSame(licenceProblems(lockOf({ license })), [], license)
  }
  for (const license of ['GPL-3.0-only', 'MIT AND GPL-3.0-only', 'BUSL-1.1', 'SEE LICENSE IN x', undefined]) {
    t.equal(licenceProblems(lockOf({ license })).length, 1, String(license))
  }
  t.strictSame(licenceProblems(lockOf({ license: 'MPL-2.0', dev: true })), [], 'unchanged, in tests')
  t.equal(licenceProblems(lockOf({ license: 'MPL-2.0' })).length, 1, 'not in what is installed with Tidegate')
})

t.test('the page of licences names every package', async (t) => {
  const page: string = licencePage(lock)
  const names = Object.keys(lock.packages).filter((path) => path !== '')
  for (const path of names) {
    const name = path.slice(path.lastIndexOf('node_modules/') + 13)
    t.ok(
      new RegExp(`(?:^\\| |[:,] )${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?: \\||,|$)`, 'm').test(page),
      name,
    )
  }
})

t.test('the bill of materials has every runtime package, and its dependencies', async (t) => {
  const own = bill(manifest, lock)
  const refs = new Set(own.components.map((part: { 'bom-ref': string }) => part['bom-ref']))
  for (const { ref, dependsOn } of own.dependencies) {
    for (const needed of dependsOn) t.ok(refs.has(needed), `${ref} needs ${needed}, which is a part`)
  }
  for (const { hashes, name } of own.components) t.match(hashes[0].content, /^[0-9a-f]{128}$/, name)
  const reached = new Set<string>()
  const visit = (ref: string) => {
    if (reached.has(ref)) return
    reached.add(ref)
    for (const needed of needs.get(ref) ?? []) visit(needed)
  }
  const needs = new Map<string, string[]>(
    own.dependencies.map((one: { ref: string; dependsOn: string[] }) => [one.ref, one.dependsOn]),
  )
  const whole = own.metadata.component['bom-ref']
  visit(whole)
  t.strictSame([...reached].sort(), [whole, ...refs].sort(), 'each package is needed by another')
})

t.test('the findings of npm audit are summed up in a line', async (t) => {
  const clean = {
    metadata: { vulnerabilities: { total: 0 }, dependencies: { total: 7 } },
    vulnerabilities: {},
  }
  t.strictSame(readAudit(JSON.stringify(clean)), {
    asked: true,
    summary: 'no known hole in 7 packages',
    holes: [],
  })
  const hole = {
    name: 'a',
    severity: 'high',
    range: '<1.0.1',
    via: [{ title: 'Bad', url: 'https://example.com/1' }],
    fixAvailable: true,
  }
  const { summary, holes } = readAudit(JSON.stringify({ ...clean, vulnerabilities: { a: hole } }))
  t.equal(summary, 'known holes in 1 of 7 packages')
  t.strictSame(holes, ['a <1.0.1: high; Bad (https://example.com/1); npm audit fix has a version without'])
  t.match(readAudit('{"message":"405 Method Not Allowed"}'), { asked: false, summary: /405/, holes: [] })
  t.match(readAudit(''), { asked: false, holes: [] })
})
