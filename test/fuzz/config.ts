import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { formatError, loadConfig } from '../../src/config/load/load.js'
import { compileSnapshot } from '../../src/config/snapshot/snapshot.js'
import { codePoint } from '../support/code-point.js'
import { holds, must, type Target } from './target.js'

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')
const TEXTS = [read('config/tidegate.yaml'), read('test/fixtures/config-full.yaml')]
const SECRET = 'Zq7kSecretKx9'

const TOKENS = [
  ...[
    '~',
    'null',
    '[]',
    '{}',
    '-1',
    '0',
    '1e309',
    '.nan',
    '0x10',
    '9007199254740993',
    '99999999999d',
    '1ms',
    '10/min',
    '10/0s',
  ],
  ...[
    '"\\u0000"',
    '"\\ud800"',
    '!!binary aGk=',
    '!!js/function x',
    '&a [*a, *a]',
    '*a',
    '<<: *a',
    '<<: { a: 1 }',
    '? a',
    '---',
  ],
  ...[
    '...',
    '%YAML 1.2',
    '\t',
    '\u2028',
    'é',
    '| ',
    '> ',
    "'",
    '"',
    ':',
    ': ',
    '- ',
    '#',
    '*',
    '{',
    '}',
    '[',
    ']',
    ',',
  ],
  ...[
    ...[
      '@S}',
      '@S:-x}',
      '@',
      '@S',
      '$@S}',
      '@__proto__}',
      'x@S}y',
      '@S}/min',
      'http://@S}',
      'http://a:@S}@b',
    ].map((text) => text.replaceAll('@', '${')),
  ],
  ...[
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    '__proto__: { polluted: true }',
    'constructor: { prototype: x }',
  ],
  ...[
    'http://[::1',
    'http://a@b',
    '/../../etc/passwd',
    '/dev/zero',
    '/proc/self/environ',
    '300.1.1.1/8',
    '::/129',
    'a'.repeat(300),
  ],
]

interface Edit {
  readonly kind: 'value' | 'key' | 'insert' | 'drop' | 'repeat' | 'indent' | 'cut' | 'text'
  readonly line: number
  readonly at: number
  readonly token: string
}

const edit: fc.Arbitrary<Edit> = fc.record({
  kind: fc.constantFrom(
    ...(['value', 'value', 'value', 'key', 'insert', 'drop', 'repeat', 'indent', 'cut', 'text'] as const),
  ),
  line: fc.integer({ min: 0, max: 1000 }),
  at: fc.integer({ min: 0, max: 1000 }),
  token: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...TOKENS) },
    fc.string({ maxLength: 6, unit: codePoint }),
  ),
})

function apply(text: string, { kind, line, at, token }: Edit): string {
  const lines = text.split('\n')
  const n = Math.min(lines.length - 1, Math.floor((lines.length * line) / 1000))
  const here = lines[n]!
  switch (kind) {
    case 'value':
      lines[n] = here.replace(/([:[,-]\s+)([^,#\]}]+)/, (_, before) => before + token)
      break
    case 'key':
      lines[n] = here.replace(/[\w-]+(?=:)/, () => token)
      break
    case 'insert':
      lines.splice(n, 0, `${/^ */.exec(here)![0]}${token}`)
      break
    case 'drop':
      lines.splice(n, 1)
      break
    case 'repeat':
      lines.splice(n, 0, here)
      break
    case 'indent':
      lines[n] = ` ${here}`
      break
    case 'cut':
      lines.length = n
      break
    case 'text': {
      const place = Math.floor((here.length * at) / 1000)
      lines[n] = here.slice(0, place) + token + here.slice(place)
    }
  }
  return lines.join('\n')
}

const file = fc
  .tuple(fc.constantFrom(...TEXTS), fc.array(edit, { minLength: 1, maxLength: 5 }))
  .map(([text, edits]) => edits.reduce(apply, text))

/** Every environment variable that a file names holds the secret, or a number where a number is required. */
const env: NodeJS.ProcessEnv = { PORT: '1', MAX_KEYS: '9', TRACE_SHARE: '1' }
for (const [, name] of TEXTS.join().matchAll(/\$\{([A-Z_]+)/g)) env[name!] ??= `${SECRET}-${SECRET}-${SECRET}`
env.S = SECRET

export const config: Target = {
  name: 'config',
  what: 'a file is accepted, and then compiles, or refused with a place and a reason that shows no secret',
  short: 15,
  open: () =>
    holds(fc.oneof({ weight: 20, arbitrary: file }, fc.string({ unit: codePoint })), (text) => {
      const result = loadConfig(text, { file: 'a.yaml', env })
      const lines = text.split('\n').length
      for (const error of result.ok ? result.warnings : [...result.errors, ...result.warnings]) {
        must(
          error.line >= 1 && error.line <= lines + 1 && error.column >= 1,
          `has no place: ${formatError(error)}`,
        )
        must(error.message.length > 0 && error.message.length < 2000, `is no message: ${formatError(error)}`)
        must(!error.message.includes(SECRET), `tells a secret: ${formatError(error)}`)
        must(!/[\0-\x08\x0a-\x1f\x7f]/.test(error.message), `breaks a line: ${JSON.stringify(error.message)}`)
      }
      must(({} as { polluted?: unknown }).polluted === undefined, 'pollutes every object')
      must(Object.keys(Object.prototype).length === 0, 'pollutes every object')
      if (!result.ok) {
        must(result.errors.length > 0 && result.errors.length <= 101, `${result.errors.length} errors`)
        return
      }
      const snapshot = compileSnapshot(result.config, 0)
      must(snapshot.hash === compileSnapshot(result.config, 0).hash, 'has two hashes')
    }),
}
