// Tests src/extension/{modules,options}.ts
// Tests src/config/load/{extension-instances,extension-options,load-with-extensions}.ts
// Tests src/config/check/extensions.ts
// Tests src/config/snapshot/extensions.ts
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createExtensions } from '../../src/config/load/extension-instances.js'
import { InvalidConfig, openConfig } from '../../src/config/load/reload.js'
import { respond } from '../../src/extension/define.js'

/** Module that shows what its instances do in a global list, by name. */
const MODULE = `
import { defineExtension, respond } from 'tidegate/extension'
export default defineExtension({
  options: {
    type: 'object',
    properties: {
      list: { type: 'string' },
      wait: { type: 'string', format: 'duration', default: '30s' },
      share: { type: 'number', minimum: 0, default: 0.5 },
      key: { type: 'string', secret: true, default: 'secret of the default' },
      map: { type: 'object', additionalProperties: { type: 'integer' } },
    },
    required: ['list'],
  },
  async create({ name, options, log, signal }) {
    const list = globalThis[options.list]
    if (options.wait === 13) throw new Error('thirteen')
    list.push(['create', options])
    log.info('made', { wait: options.wait })
    signal.addEventListener('abort', () => list.push(['end', options.wait]))
    return { onRequest: () => respond(403, name) }
  },
})
`

const yaml = (extensions: string, route = 'use: [one]') => `
tiers: [free]
extensions:
${extensions}
services: { payments: { upstreams: [http://127.0.0.1:9] } }
routes: [{ path: /a, service: payments, ${route} }]
`

let lists = 0
/** Returns a list that modules can find by its name. */
function globalList(): { name: string; list: [string, unknown][] } {
  const name = `extensions${lists++}`
  const list: [string, unknown][] = []
  Object.assign(globalThis, { [name]: list })
  return { name, list }
}

/** Returns the messages of a configuration that is refused. */
async function messagesOf(file: string): Promise<readonly string[]> {
  const failed = await openConfig({ file, env: {} }).catch((error: InvalidConfig) => error)
  if (!(failed instanceof InvalidConfig)) {
    await failed.close()
    return []
  }
  return failed.messages.map((message) => message.replace(file, 'FILE'))
}

t.test(
  'an extension is created once, kept while its options are the same, and ended after the swap',
  async (t) => {
    const { name, list } = globalList()
    const options = (more: string) =>
      `  - { name: one, module: one.mjs, options: { list: ${name}${more} }, timeout: 20ms }`
    const folder = t.testdir({ 'one.mjs': MODULE, 'tidegate.yaml': yaml(options('')) })
    const file = join(folder, 'tidegate.yaml')
    const lines: unknown[] = []
    const extensions = createExtensions({ runs: true })
    const config = await openConfig({ file, env: {}, extensions, pollMs: 3_600_000 })
    const write = (level: string) => (fields: object, message: string) => lines.push([level, fields, message])
    extensions.attach({ info: write('info'), warn: write('warn'), error: write('error') })
    t.strictSame(lines, [['info', { wait: 30_000, extension: 'one' }, 'made']])
    t.match(list, [['create', { list: name, wait: 30_000, share: 0.5, key: 'secret of the default' }]])
    t.ok(Object.isFrozen((list[0] as [string, object])[1]))

    const hooks = config.current().routes[0]!.hooks!
    t.match(hooks.onRequest, [
      { extension: 'one', hook: 'onRequest', timeout: 20, onError: 'deny', explain: false },
    ])
    t.strictSame(hooks.onRequest![0]!.run({}), respond(403, 'one'))

    writeFileSync(file, yaml(options('').replace('20ms', '30ms')))
    t.match(await config.reload('file'), { result: 'applied' })
    t.equal(config.current().routes[0]!.hooks!.onRequest![0]!.timeout, 30)
    t.equal(list.length, 1, 'a timeout makes no new instance')

    writeFileSync(file, yaml(options(', wait: 1s, key: other')))
    t.match(await config.reload('file'), { result: 'applied' })
    t.match(config.status().changed, [
      'extensions[one].options.wait: 30s -> 1s',
      'extensions[one].options.key: *** -> ***',
      'extensions[one].timeout: 30ms -> 20ms',
    ])
    t.match(list.slice(1), [
      ['create', { wait: 1000 }],
      ['end', 30_000],
    ])

    writeFileSync(file, yaml(options(', wait: 13ms')))
    const outcome = await config.reload('file')
    t.equal(outcome.result, 'rejected')
    t.match(outcome.messages, [
      /:4:26: extensions\[0\].module: create failed: thirteen \(line 17\); correct the module or its options/,
    ])
    t.equal(list.length, 3)

    await config.close()
    t.match(list.slice(3), [['end', 1000]])
  },
)

t.test('a module that has changed on disk is a warning, until it is the one that runs', async (t) => {
  const { name } = globalList()
  const folder = t.testdir({
    'one.mjs': MODULE,
    'tidegate.yaml': yaml(`  - { name: one, module: one.mjs, options: { list: ${name} } }`),
  })
  const file = join(folder, 'tidegate.yaml')
  const lines: string[] = []
  const extensions = createExtensions({ runs: true })
  const log = (_: object, message: string) => lines.push(message)
  extensions.attach({ info() {}, warn: log, error() {} })
  const config = await openConfig({ file, env: {}, extensions, pollMs: 50, stableMs: 10 })
  t.strictSame(config.status().warnings, [])
  await delay(100)
  writeFileSync(join(folder, 'next.mjs'), `${MODULE}// newer`)
  renameSync(join(folder, 'next.mjs'), join(folder, 'one.mjs'))
  while (config.status().warnings.length === 0) await delay(20)
  const warning =
    'the module of the extension one has changed since it was loaded; it takes effect at the next start, or when SIGUSR2 replaces the workers'
  t.strictSame(config.status().warnings, [warning])
  await config.reload('file')
  t.strictSame(lines, [warning], 'logged once')
  extensions.renew()
  t.match(await config.reload('file'), { result: 'unchanged', messages: [] })
  await config.close()
})

t.test('each extension of a module whose create fails is named', async (t) => {
  const module = 'export default { create() { throw new Error("no database") } }'
  const extensions = '  - { name: one, module: one.mjs }\n  - { name: two, module: one.mjs }'
  const folder = t.testdir({ 'one.mjs': module, 'tidegate.yaml': yaml(extensions, 'use: [one, two]') })
  t.match(await messagesOf(join(folder, 'tidegate.yaml')), [
    /extensions\[0\].module: create failed: no database/,
    /extensions\[1\].module: create failed: no database/,
  ])
})

t.test('a primary only checks: each instance ends at once', async (t) => {
  const { name, list } = globalList()
  const folder = t.testdir({
    'one.mjs': MODULE,
    'tidegate.yaml': yaml(`  - { name: one, module: one.mjs, options: { list: ${name} } }`),
  })
  const extensions = createExtensions({ runs: false })
  const config = await openConfig({ file: join(folder, 'tidegate.yaml'), env: {}, extensions })
  t.match(list, [
    ['create', {}],
    ['end', 30_000],
  ])
  await config.reload('signal')
  t.equal(list.length, 2)
  await config.close()
})

t.test('a module that cannot be loaded is loaded again once it is mended', async (t) => {
  const { name } = globalList()
  const text = yaml(`  - { name: one, module: one.mjs, options: { list: ${name} } }`)
  const folder = t.testdir({ 'one.mjs': 'export default', 'tidegate.yaml': text })
  const file = join(folder, 'tidegate.yaml')
  t.match(await messagesOf(file), [
    /extensions\[0\].module: cannot be loaded: Unexpected end of input.*; correct the module/,
  ])
  writeFileSync(join(folder, 'one.mjs'), MODULE.replace("type: 'integer'", "type: 'int'"))
  t.match(await messagesOf(file), [
    /extensions\[0\].module: options.map.<name>: the type "int" is not supported/,
  ])
  writeFileSync(join(folder, 'one.mjs'), MODULE.replace('=== 13', '=== 30_000'))
  t.match(await messagesOf(file), [/extensions\[0\].module: create failed: thirteen \(line 17\)/])
  writeFileSync(join(folder, 'one.mjs'), MODULE)
  const config = await openConfig({ file, env: {} })
  t.ok(config.current().routes[0]!.hooks)
  await config.close()
})

const REFUSED: [what: string, module: string, rest: string, message: RegExp][] = [
  ['a missing file', '', 'module: gone.mjs', /the file cannot be read; correct the path/],
  ['no extension', 'export const a = 1', '', /it exports no extension; write export default defineExtension/],
  [
    'a module that throws',
    '\nthrow new Error("no database")',
    '',
    /cannot be loaded: no database \(line 2\); correct/,
  ],
  [
    'a word of JSON Schema that is not known',
    'export default { options: { type: "object", properties: { a: { type: "string", pattern: "x" } } }, create() {} }',
    '',
    /options.a: the word "pattern" is not supported; the known words are type, description, .*; correct the module/,
  ],
  [
    'a type that is not known',
    'export default { options: { type: "object", properties: { a: { type: "strin" } } }, create() {} }',
    '',
    /options.a: the type "strin" is not supported; did you mean "string"\?/,
  ],
  [
    'a default that is not valid',
    'export default { options: { type: "object", properties: { a: { type: "integer", default: "x" } } }, create() {} }',
    '',
    /options.a: the default "x" is not a value of this schema/,
  ],
  [
    'an option of a module without options',
    'export default { create: () => ({ cost: () => 1 }) }',
    'options: { a: 1 }',
    /extensions\[0\].options: unknown key "a"; there are no known keys/,
  ],
  [
    'a create that throws what cannot be shown',
    'export default { create() { throw { toString() { throw 1 } } } }',
    '',
    /create failed: it threw a value that cannot be shown; correct the module/,
  ],
  ['no hooks', 'export default { create() {} }', '', /create failed: it returned no hooks/],
  [
    'an unknown hook',
    'export default { create: () => ({ onRequst() {} }) }',
    '',
    /there is no hook "onRequst"; did you mean "onRequest"\?/,
  ],
  [
    'a hook that is no function',
    'export default { create: () => ({ cost: 2 }) }',
    '',
    /cost is neither a function nor { run }/,
  ],
  [
    'a body without a size',
    'export default { create: () => ({ cost: { run() {}, body: {} } }) }',
    '',
    /cost: body.max must be a size up to 1MiB/,
  ],
  [
    'a body for identify',
    'export default { create: () => ({ identify: { run() {}, body: { max: "1kB" } } }) }',
    '',
    /identify gets no body/,
  ],
  [
    'an extension that only identifies in use',
    'export default { create: () => ({ identify() {} }) }',
    '',
    /routes\[0\].use\[0\]: "one" has no hook that runs here; name it in consumers/,
  ],
]

for (const [what, module, rest, message] of REFUSED) {
  t.test(`${what} is a bad configuration`, async (t) => {
    const extension = `  - { name: one, ${rest.startsWith('module') ? rest : `module: one.mjs${rest && `, ${rest}`}`} }`
    const folder = t.testdir({ 'one.mjs': module, 'tidegate.yaml': yaml(extension) })
    const messages = await messagesOf(join(folder, 'tidegate.yaml'))
    t.match(messages, [message])
    t.equal(messages.length, 1, messages.join('\n'))
  })
}

t.test('names of extensions are checked', async (t) => {
  const identify = 'export default { create: () => ({ identify() {}, onRequest() {} }) }'
  const folder = t.testdir({
    'one.mjs': identify,
    'tidegate.yaml': `
tiers: [free]
consumers: [{ extension: one }, { extension: one }, { extension: tow }]
extensions:
  - { name: one, module: one.mjs }
  - { name: two, module: one.mjs }
  - { name: two, module: one.mjs }
services: { payments: { upstreams: [http://127.0.0.1:9], use: [two, two] } }
routes: [{ path: /a, service: payments, use: [ones] }]
`,
  })
  t.strictSame(await messagesOf(join(folder, 'tidegate.yaml')), [
    'FILE:3:46: consumers[1].extension: "one" is listed twice; remove one',
    'FILE:3:66: consumers[2].extension: no extension is named "tow"; did you mean "two"?',
    'FILE:7:13: extensions[2].name: "two" is the name of extensions[1] on line 6 already; give each extension a name of its own',
    'FILE:8:69: services.payments.use[1]: "two" is listed twice; remove one',
    'FILE:9:47: routes[0].use[0]: no extension is named "ones"; did you mean "one"?',
  ])
})

t.test('a service in a split cannot use onRequest', async (t) => {
  const folder = t.testdir({
    'one.mjs': 'export default { create: () => ({ onRequest() {} }) }',
    'tidegate.yaml': `
tiers: [free]
extensions: [{ name: one, module: one.mjs }]
services: { a: { upstreams: [http://127.0.0.1:9], use: [one] }, b: { upstreams: [http://127.0.0.1:9] } }
routes: [{ path: /a, split: [{ service: a, weight: 1 }, { service: b, weight: 1 }] }]
`,
  })
  t.strictSame(await messagesOf(join(folder, 'tidegate.yaml')), [
    'FILE:4:57: services.a.use[0]: the onRequest of "one" runs before a split has chosen this service; name the extension in use of the route',
  ])
})
