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
      config: { load: { 'load.ts': `import { a } from '../../errors.js'; import '@scope/known/deep'` } },
      gateway: {
        'app.ts': `import './stages/route.js'; import fastify from 'fastify'`,
        stages: {
          'route.ts': `import type { X } from '../exchange/exchange.js'; import '../../config/load/load.js'`,
        },
        exchange: { 'exchange.ts': `import { readFileSync } from 'node:fs'` },
      },
      admin: { 'server.ts': `import '../config/load/load.js'` },
      cli: { 'start.ts': `await import('../main.js')` },
    },
  })
  t.match(checkImports(root), { problems: [], summary: '8 files, 8 imports' })
})

t.test('a tree without sources fails the check', async (t) => {
  const root = t.testdir({ 'package.json': packageJson, src: {} })
  t.strictSame(checkImports(root).problems, ['src holds no .ts file: there is nothing to check'])
})

const MOVE = ': move what both need to the lower of the two, or hand it over as an argument'

/** Files of one tree, each of which breaks one rule, and the check's message about it. */
const violations: [what: string, file: string, source: string, problem: string][] = [
  [
    'an import against the direction',
    'errors.ts',
    `import './config/load/plain.js'`,
    `errors.ts: imports config/load/plain.ts; errors may import no other room${MOVE}`,
  ],
  [
    'a type-only import against the direction',
    'config/load/type-only.ts',
    `import type { X } from '../../limiter/plain.js'`,
    `config/load/type-only.ts: imports limiter/plain.ts; config may import common, errors, shares, log-throttle, version, net, extension${MOVE}`,
  ],
  [
    'an import type expression against the direction',
    'config/load/type-expression.ts',
    `export type X = import('../../limiter/plain.js').X`,
    `config/load/type-expression.ts: imports limiter/plain.ts; config may import common, errors, shares, log-throttle, version, net, extension${MOVE}`,
  ],
  [
    'a re-export against the direction',
    'config/load/re-export.ts',
    `export * from '../../limiter/plain.js'`,
    `config/load/re-export.ts: imports limiter/plain.ts; config may import common, errors, shares, log-throttle, version, net, extension${MOVE}`,
  ],
  [
    'a dynamic import against the direction',
    'limiter/dynamic.ts',
    `await import('../main.js')`,
    `limiter/dynamic.ts: imports main.ts; limiter may import common, errors, shares, log-throttle, version, net, extension, config${MOVE}`,
  ],
  [
    'a gateway that sees the admin room',
    'gateway/app.ts',
    `import '../admin/plain.js'`,
    `gateway/app.ts: imports admin/plain.ts; gateway may import common, errors, shares, log-throttle, version, net, extension, config, credentials, tier-sources, upstream, limiter, fleet, telemetry, metering${MOVE}`,
  ],
  [
    'a stage that imports another stage',
    'gateway/stages/quota.ts',
    `import { x } from './tier.js'`,
    `gateway/stages/quota.ts: imports the stage gateway/stages/tier.ts; only app.ts and simulate/ run stages${MOVE}`,
  ],
  [
    'a shared file of the gateway that imports a stage',
    'gateway/exchange/exchange.ts',
    `import type { X } from '../stages/tier.js'`,
    `gateway/exchange/exchange.ts: imports the stage gateway/stages/tier.ts; only app.ts and simulate/ run stages${MOVE}`,
  ],
  [
    'a cycle between files of one room',
    'upstream/pool/a.ts',
    `import type { X } from './b.js'`,
    'cycle: upstream/pool/a.ts -> upstream/pool/b.ts -> upstream/pool/c.ts -> upstream/pool/a.ts',
  ],
  [
    'a part of a room that imports one above it',
    'config/values/above.ts',
    `import '../load/plain.js'`,
    `config/values/above.ts: imports config/load/plain.ts; the parts of config are, from the lowest, values, schema, snapshot, check, load${MOVE}`,
  ],
  [
    'a part that its room does not have',
    'config/more/anything.ts',
    '',
    'config/more/anything.ts: is in no part of config; its parts are values, schema, snapshot, check, load',
  ],
  [
    'a file beside the parts of a room that has only parts',
    'config/beside.ts',
    '',
    'config/beside.ts: is in no part of config; its parts are values, schema, snapshot, check, load',
  ],
  [
    'an import of a file that does not exist',
    'config/load/missing.ts',
    `import './nope.js'`,
    'config/load/missing.ts: imports ./nope.js, and src/config/load/nope.ts does not exist',
  ],
  [
    'an import from outside of src',
    'config/load/outside.ts',
    `import '../../../test/helper.js'`,
    'config/load/outside.ts: imports ../../../test/helper.js, which is outside of src; read it as a file, or move it in',
  ],
  [
    'a package that an installed copy would not have',
    'config/load/package.ts',
    `import '@scope/other/x'`,
    'config/load/package.ts: imports @scope/other, which is not in the dependencies of package.json: it would be missing when installed',
  ],
  [
    'a module of Node without node:',
    'config/load/builtin.ts',
    `import { readFileSync } from 'fs'`,
    'config/load/builtin.ts: imports fs; write node:fs',
  ],
  [
    'a room that the design does not know',
    'utils/anything.ts',
    '',
    'utils/anything.ts: utils is not a room; the rooms are common, errors, shares, log-throttle, version, net, extension, config, extension-testing, credentials, tier-sources, upstream, limiter, fleet, telemetry, metering, gateway, admin, open-admin, main, embed, workers, cli',
  ],
]

t.test('every kind of wrong import is found', async (t) => {
  const root = t.testdir({ 'package.json': packageJson })
  const files: [file: string, source: string][] = [
    ...violations.map(([, file, source]): [string, string] => [file, source]),
    ['config/load/plain.ts', ''],
    ['limiter/plain.ts', ''],
    ['admin/plain.ts', ''],
    ['gateway/stages/tier.ts', ''],
    ['upstream/pool/b.ts', `import './c.js'`],
    ['upstream/pool/c.ts', `import './a.js'`],
    ['main.ts', ''],
  ]
  for (const [file, source] of files) {
    mkdirSync(join(root, 'src', dirname(file)), { recursive: true })
    writeFileSync(join(root, 'src', file), source)
  }
  // `npm test` runs the command over this package; these tests run it over faulty trees.
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
