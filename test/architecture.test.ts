import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))
const script = join(root, 'scripts/check-imports.mjs')
const packageJson = JSON.stringify({ dependencies: { fastify: '^5.0.0', '@scope/known': '^1.0.0' } })

interface Checked {
  readonly problems: readonly string[]
  readonly summary: string
}
const { checkImports }: { checkImports(root: string): Checked } = await import(script)

t.test('every import of src goes in the direction of the design', async (t) => {
  const { problems, summary } = checkImports(root)
  t.strictSame(problems, [])
  t.match(summary, /^\d+ files, \d+ imports, all in the right direction, no cycles$/)
})

t.test('a tree that keeps the directions passes', async (t) => {
  const root = t.testdir({
    'package.json': packageJson,
    src: {
      'errors.ts': 'export const a = 1',
      'main.ts': `import './gateway/app.js'; import './admin/server.js'`,
      config: { 'load.ts': `import { a } from '../errors.js'; import '@scope/known/deep'` },
      gateway: {
        'app.ts': `import './route.js'; import fastify from 'fastify'`,
        'route.ts': `import type { X } from './exchange.js'; import '../config/load.js'`,
        'exchange.ts': `import { readFileSync } from 'node:fs'`,
      },
      admin: { 'server.ts': `import '../config/load.js'` },
      cli: { 'start.ts': `await import('../main.js')` },
    },
  })
  t.match(checkImports(root), { problems: [], summary: '8 files, 8 imports' })
})

t.test('a tree without sources fails the check', async (t) => {
  const root = t.testdir({ 'package.json': packageJson, src: {} })
  t.strictSame(checkImports(root).problems, ['src holds no .ts file: there is nothing to check'])
})

/** Files of one tree, each of which breaks one rule, and what the check says of it. */
const violations: [what: string, file: string, source: string, problem: string][] = [
  [
    'an import against the direction',
    'errors.ts',
    `import './config/plain.js'`,
    'errors.ts: imports config/plain.ts; errors may import no other room',
  ],
  [
    'a type-only import against the direction',
    'config/type-only.ts',
    `import type { X } from '../limiter/plain.js'`,
    'config/type-only.ts: imports limiter/plain.ts; config may import errors, shares',
  ],
  [
    'an import type expression against the direction',
    'config/type-expression.ts',
    `export type X = import('../limiter/plain.js').X`,
    'config/type-expression.ts: imports limiter/plain.ts; config may import errors, shares',
  ],
  [
    'a re-export against the direction',
    'config/re-export.ts',
    `export * from '../limiter/plain.js'`,
    'config/re-export.ts: imports limiter/plain.ts; config may import errors, shares',
  ],
  [
    'a dynamic import against the direction',
    'limiter/dynamic.ts',
    `await import('../main.js')`,
    'limiter/dynamic.ts: imports main.ts; limiter may import errors, shares, config',
  ],
  [
    'a gateway that sees the admin room',
    'gateway/app.ts',
    `import '../admin/plain.js'`,
    'gateway/app.ts: imports admin/plain.ts; gateway may import errors, shares, config, credentials, limiter, plans, upstream, telemetry',
  ],
  [
    'a stage that imports another stage',
    'gateway/quota.ts',
    `import { x } from './tier.js'`,
    'gateway/quota.ts: imports the stage gateway/tier.ts; only gateway/app.ts does, move what is shared to a file of its own',
  ],
  [
    'a shared file of the gateway that imports a stage',
    'gateway/exchange.ts',
    `import type { X } from './tier.js'`,
    'gateway/exchange.ts: imports the stage gateway/tier.ts; only gateway/app.ts does, move what is shared to a file of its own',
  ],
  [
    'a cycle between files of one room',
    'upstream/a.ts',
    `import type { X } from './b.js'`,
    'cycle: upstream/a.ts -> upstream/b.ts -> upstream/c.ts -> upstream/a.ts',
  ],
  [
    'an import of a file that does not exist',
    'config/missing.ts',
    `import './nope.js'`,
    'config/missing.ts: imports ./nope.js, and src/config/nope.ts does not exist',
  ],
  [
    'an import from outside of src',
    'config/outside.ts',
    `import '../../test/helper.js'`,
    'config/outside.ts: imports ../../test/helper.js, which is outside of src; read it as a file, or move it in',
  ],
  [
    'a package that an installed copy would not have',
    'config/package.ts',
    `import '@scope/other/x'`,
    'config/package.ts: imports @scope/other, which is not in the dependencies of package.json: it would be missing when installed',
  ],
  [
    'a module of Node without node:',
    'config/builtin.ts',
    `import { readFileSync } from 'fs'`,
    'config/builtin.ts: imports fs; write node:fs',
  ],
  [
    'a room that the design does not know',
    'utils/anything.ts',
    '',
    'utils/anything.ts: utils is not a room; the rooms are errors, shares, config, credentials, limiter, plans, upstream, telemetry, gateway, admin, main, workers, cli',
  ],
]

t.test('each way of breaking a direction is found', async (t) => {
  const root = t.testdir({ 'package.json': packageJson })
  const files: [file: string, source: string][] = [
    ...violations.map(([, file, source]): [string, string] => [file, source]),
    ['config/plain.ts', ''],
    ['limiter/plain.ts', ''],
    ['admin/plain.ts', ''],
    ['gateway/tier.ts', ''],
    ['upstream/b.ts', `import './c.js'`],
    ['upstream/c.ts', `import './a.js'`],
    ['main.ts', ''],
  ]
  for (const [file, source] of files) {
    mkdirSync(join(root, 'src', dirname(file)), { recursive: true })
    writeFileSync(join(root, 'src', file), source)
  }
  // `npm test` runs the command over this package; here is what it does about faults.
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, root], { encoding: 'utf8' })
  t.equal(status, 1)
  t.equal(stdout, '')
  const problems = stderr.trimEnd().split('\n')
  for (const [what, , , problem] of violations) {
    t.test(`${what} fails the check`, async (t) => {
      t.ok(problems.includes(problem), problem, { problems })
    })
  }
  t.equal(problems.length, violations.length, 'nothing else is reported', { problems })
})
