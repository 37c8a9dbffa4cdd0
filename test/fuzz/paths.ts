import fc from 'fast-check'
import { canonicalPath } from '../../src/net/path.js'
import { holds, must, mutated, type Target } from './target.js'

const TOKENS = [
  ...[
    '/',
    '//',
    '.',
    '..',
    '/../',
    '/./',
    '%2e',
    '%2E%2e',
    '%2f',
    '%5c',
    '\\',
    ';',
    '%3b',
    '..;',
    '%',
    '%%',
    '%2',
  ],
  ...[
    '%00',
    '%0a',
    '%25',
    '%252e',
    '%25252e',
    '%252f',
    '%2525',
    '%zz',
    '%c0%ae',
    '%u002e',
    '?',
    '#',
    ' ',
    '\t',
    '\0',
    'é',
  ],
  ...['a', 'A', '~', '%7e', '%40', '@', ':', '%3A', '%7B', '%22', '*', '%2a'],
]

const path = mutated(
  fc
    .array(fc.constantFrom(...TOKENS, 'payments', 'refunds'), { maxLength: 10 })
    .map((parts) => `/${parts.join('')}`),
  TOKENS,
)

/** Returns the path segments as a reader sees them who decodes that often and splits at those separators. */
function readersOf(text: string): string[][] {
  const found: string[][] = []
  let decoded = text
  for (let round = 0; round < 6; round++) {
    found.push(decoded.split(/[/\\]/).map((segment) => segment.split(';', 1)[0]!))
    decoded = decoded.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
  }
  return found
}

/** Spells the same path differently: escapes some characters that mean the same when escaped. */
const ESCAPABLE = /[A-Za-z0-9\-._~]/g
function respelt(text: string, choices: readonly boolean[]): string {
  let i = 0
  const escapes = text.match(/%[0-9a-f]{2}/gi)
  if (escapes !== null) return text
  return text.replace(ESCAPABLE, (char) =>
    choices[i++ % choices.length] ? `%${char.charCodeAt(0).toString(16).padStart(2, '0')}` : char,
  )
}

export const paths: Target = {
  name: 'paths',
  what: 'a path has one canonical form, in which no reader finds a way up or a control character',
  short: 3000,
  open: () =>
    holds(
      fc.record({ path, choices: fc.array(fc.boolean(), { minLength: 1, maxLength: 7 }) }),
      ({ path, choices }) => {
        const found = canonicalPath(path)
        const again = canonicalPath(respelt(path, choices))
        must((found === undefined) === (again === undefined), 'another spelling is refused, or this one')
        if (found === undefined) return
        must(again!.path === found.path && again!.key === found.key, 'another spelling is another path')
        must(/^\/[\x21-\x7e]*$/.test(found.path), 'holds what no path may')
        const twice = canonicalPath(found.path)
        must(twice?.path === found.path && twice.key === found.key, 'is not canonical when read again')
        must(twice!.encoded === found.encoded, 'is encoded in one reading only')
        must(!found.path.includes('//'), 'holds an empty segment')
        for (const segments of readersOf(found.path)) {
          must(!segments.includes('..') && !segments.includes('.'), 'leads elsewhere')
        }
        must(!/%(?:0|1|7f)/i.test(found.path), 'holds an escaped control character')
      },
    ),
}
