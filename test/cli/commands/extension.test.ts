// Tests src/cli/commands/extension.ts src/cli/commands/schema.ts
import { execFile } from 'node:child_process'
import { readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { tidegate } from '../../support/gateway/cli.js'
import { CLI } from '../../support/gateway/process.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const run = promisify(execFile)

t.test('extension new writes an extension whose test passes, and that check accepts', async (t) => {
  const cwd = t.testdir({
    node_modules: {},
    'tidegate.yaml': `
tiers: [free]
extensions: [{ name: fraud, module: extensions/fraud.mjs, options: { header: x-partner } }]
services: { orders: { upstreams: [http://127.0.0.1:9] } }
routes: [{ path: /orders/*, service: orders, use: [fraud] }]
`,
  })
  symlinkSync(root, join(cwd, 'node_modules/tidegate'))
  const { code, stdout } = await tidegate(['extension', 'new', 'fraud', '--js'], { cwd })
  t.equal(code, 0)
  t.match(stdout, /^wrote extensions\/fraud.mjs and extensions\/fraud.test.mjs$/m)
  const written = join(cwd, 'extensions/fraud.test.mjs')
  const tested = await run(process.execPath, ['--test', '--test-reporter=tap', written], { env: {} })
  t.match(tested.stdout, /^# pass 2$/m)
  const file = join(cwd, 'tidegate.yaml')
  t.match(await tidegate(['check', '-c', file]), {
    code: 0,
    stdout: /extensions +fraud \(.*extensions\/fraud.mjs\)/,
  })

  const schema = JSON.parse((await tidegate(['schema', '--config', file])).stdout)
  const [rule] = schema.properties.extensions.items.allOf
  t.match(rule, {
    if: { properties: { name: { const: 'fraud' } } },
    // biome-ignore lint/suspicious/noThenProperty: a word of JSON Schema
    then: { properties: { options: { required: ['header'], additionalProperties: false } } },
  })

  const again = await tidegate(['extension', 'new', 'fraud', '--js'], { cwd })
  t.match(again, {
    code: 1,
    stderr: /extensions\/fraud.mjs exists already; choose another name, or remove it/,
  })
})

t.test('extension new writes TypeScript where Node.js can load it', async (t) => {
  const cwd = t.testdir({})
  const strips = 'typescript' in process.features && process.features.typescript !== false
  await tidegate(['extension', 'new', 'one', '--dir', '.'], { cwd })
  t.match(readFileSync(join(cwd, `one.test.${strips ? 'ts' : 'mjs'}`), 'utf8'), /from '\.\/one\.(ts|mjs)'/)
})

t.test('check ends, whatever an extension keeps open', async (t) => {
  const cwd = t.testdir({
    'one.mjs': 'export default { create() { setInterval(() => {}, 1000); return { cost: () => 1 } } }',
    'tidegate.yaml': `
tiers: [free]
extensions: [{ name: one, module: one.mjs }]
services: { orders: { upstreams: [http://127.0.0.1:9], use: [one] } }
routes: [{ path: /orders/*, service: orders }]
`,
  })
  const { stdout } = await run(process.execPath, [CLI, 'check'], { cwd, timeout: 30_000 })
  t.match(stdout, /tidegate.yaml is good/)
})

t.test('extension refuses other actions and names', async (t) => {
  t.match(await tidegate(['extension', 'old', 'a']), { code: 2, stderr: /there is no "old"/ })
  t.match(await tidegate(['extension', 'new', '../a']), { code: 2, stderr: /is not a name/ })
})
