import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'

/** Tests what TypeScript reports to users of the package before anything runs. */

const root = fileURLToPath(new URL('../../', import.meta.url))
const page = readFileSync(`${root}docs/limiter-library.md`, 'utf8')
const example = /```js\n(.*?)```/s.exec(page)![1]!
const open = (settings: string) =>
  `import { openLimiter } from 'tidegate/limiter'\nopenLimiter(${settings})\n`

/** Text that the compiler's error contains; empty if it should compile. */
const PROGRAMS: Readonly<Record<string, string>> = {
  'the example of the docs': example,
  'every way to write a limit': open(`{
    limits: {
      free: ['10/min', '5/30s', { amount: 3, window: '90s', by: 'ip' }],
      pro: { amount: 8, algorithm: 'concurrency', lease: '1m' },
      staff: 'unlimited',
    },
    store: { redis: ['redis://10.0.0.1', 'redis://10.0.0.2'], timeout: '50ms' },
  }`),
  'typo: onFailure': open(`{ limits: { free: '1/s' }, onFailure: 'closed' }`),
  'typo: a word for on_failure': open(`{ limits: { free: '1/s' }, on_failure: 'close' }`),
  'typo: in a limit': open(`{ limits: { free: { amount: 1, windw: '1m' } } }`),
  'typo: an algorithm': open(`{ limits: { free: { amount: 1, window: '1m', algorithm: 'slidng' } } }`),
  'typo: a unit': open(`{ limits: { free: '10/fortnight' } }`),
  'typo: in the store': open(`{ limits: { free: '1/s' }, store: { redsi: 'redis://127.0.0.1' } }`),
  'typo: in take': `import { openLimiter } from 'tidegate/limiter'
await openLimiter({ limits: { free: '1/s' } }).take('free', 'ann', { cots: 3 })
`,
}

t.test('under --strict, typos do not compile, and the examples of the docs do', async (t) => {
  const names = Object.keys(PROGRAMS)
  const files = new Map(
    names.map((name, i) => [`${root}test/embed/limiter-program-${i}.mts`, PROGRAMS[name]!]),
  )
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'],
    paths: { 'tidegate/limiter': [`${root}src/embed/limiter.ts`] },
  }
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists, getSourceFile } = host
  host.fileExists = (file) => files.has(file) || fileExists.call(host, file)
  host.readFile = (file) => files.get(file) ?? readFile.call(host, file)
  host.getSourceFile = (file, version, ...rest) => {
    const text = files.get(file)
    return text === undefined
      ? getSourceFile.call(host, file, version, ...rest)
      : ts.createSourceFile(file, text, version)
  }
  const program = ts.createProgram([...files.keys()], options, host)
  for (const [i, name] of names.entries()) {
    const source = program.getSourceFile(`${root}test/embed/limiter-program-${i}.mts`)
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
    const messages = found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
    if (name.startsWith('typo')) t.equal(messages.length, 1, name)
    else t.same(messages, [], name)
  }
})
