import fc from 'fast-check'
import t from 'tap'
import { canonicalPath } from '../../src/net/path.js'

t.test('a plain path is its own canonical form and key', async (t) => {
  for (const path of [
    '/',
    '/payments',
    '/payments/',
    '/a.b/c-d_e~f',
    '/v1/items:batch',
    '/@me/(x)+y=z,!$&',
  ]) {
    t.same(canonicalPath(path), { path, key: path, encoded: false })
  }
})

t.test(
  'unreserved characters are unescaped, other escapes written in upper case, slashes merged',
  async (t) => {
    const forms = [
      ['/%61dmin', '/admin'],
      ['/a%2Db%2ec%5fd%7E', '/a-b.c_d~'],
      ['/caf%c3%a9', '/caf%C3%A9'],
      ['/a%20b%3fc%23d', '/a%20b%3Fc%23d'],
      ['//payments///refunds//', '/payments/refunds/'],
      ['/100%25', '/100%25'],
      ['/.well-known/x', '/.well-known/x'],
      ['/a/...', '/a/...'],
      ['/a/..b', '/a/..b'],
    ] as const
    for (const [raw, path] of forms) t.match(canonicalPath(raw), { path, encoded: false }, raw)
  },
)

t.test('the key undoes escapes of characters that need none; the forwarded path keeps them', async (t) => {
  const forms = [
    ['/users/%40me', '/users/%40me', '/users/@me'],
    ['/items%3Abatch', '/items%3Abatch', '/items:batch'],
    ['/a%2bb%7c', '/a%2Bb%7C', '/a+b|'],
    ['/%5Bx%5D', '/%5Bx%5D', '/[x]'],
    ['/a%20b%3Fc%23d%25e', '/a%20b%3Fc%23d%25e', '/a%20b%3Fc%23d%25e'],
    ['/x%2Fy%5Cz%3Bw', '/x%2Fy%5Cz%3Bw', '/x%2Fy%5Cz%3Bw'],
  ] as const
  for (const [raw, path, key] of forms) t.match(canonicalPath(raw), { path, key }, raw)
})

t.test('marks paths with escapes that some backends take for a separator or decode again', async (t) => {
  const paths = [
    '/a%2Fb',
    '/a%2fb',
    '/a%5Cb',
    '/a;b',
    '/a%3bb',
    '/refund%2573',
    '/refund%25%37%33',
    '/refund%257%33',
    '/refund%25%373',
    '/refund%25a%62',
    '/%2561',
  ]
  for (const path of paths) t.match(canonicalPath(path), { encoded: true }, path)
  t.match(canonicalPath('/100%25/x'), { encoded: false }, 'a percent sign by itself is none')
  t.match(canonicalPath('/100%25%7a'), { encoded: false }, 'nor is one before characters that are not hex')
})

t.test('refuses paths that two readers could take for different paths', async (t) => {
  const dots = [
    '/..',
    '/a/../b',
    '/.',
    '/a/.',
    '/a/./b',
    '/a/..',
    '/%2e%2e/b',
    '/.%2E',
    '/a/%2e/b',
    '//..//a',
  ]
  const hidden = ['/..;x/a', '/..%3Bx', '/..%2fa', '/a%2f..%2fb', '/a%5c..%5cb', '/..%5Ca', '/;/../a']
  const nested = ['/%252e%252e/a', '/%25252e%25252e/a', '/%252e%2e', '/a%252f..%252fb', '/%2525252525252e/x']
  const cut = ['/a/..%3F/b', '/..%23', '/a/.%3fx', '/..%20/a', '/..%20', '/..%253fx', '/%2e%2E%3f//']
  const spliced = ['/%25%32%65%25%32%65/a', '/%252%65%252%65/a']
  const bytes = [
    '/a\\b',
    '/a%00b',
    '/a%0d%0ab',
    '/a%7f',
    '/a b',
    '/a\tb',
    '/a\u0000',
    '/a\u007f',
    '/é',
    '/\u0161',
  ]
  const broken = ['/%', '/%2', '/%zz', '/%2g', '/%u002f', '/a%%41', '/%2%65']
  const other = ['', '*', 'a', 'http://x/', '?a', '/a?b', '/a#b']
  for (const path of [...dots, ...hidden, ...nested, ...cut, ...spliced, ...bytes, ...broken, ...other]) {
    t.equal(canonicalPath(path), undefined, JSON.stringify(path))
  }
})

/** Fragments that tests build hostile paths of. */
const pathText = fc
  .array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.constantFrom('/', 'a', 'B', '.', '..', '%', '%2e', '%2F', '%5c', ';', '%3b'),
      },
      fc.constantFrom(
        '%25',
        '%252e',
        '%41',
        '%7a',
        '%40',
        '@',
        '%20',
        '%c3%a9',
        '\\',
        '%00',
        '%',
        '2',
        '5',
        'e',
      ),
      fc.string({ minLength: 1, maxLength: 2 }),
    ),
    { maxLength: 12 },
  )
  .map((pieces) => `/${pieces.join('')}`)

t.test('is idempotent: the canonical form of a canonical form is the same', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(pathText, (raw) => {
        const once = canonicalPath(raw)
        if (once === undefined) return
        const twice = canonicalPath(once.path)
        if (twice?.path !== once.path || twice.key !== once.key || twice.encoded !== once.encoded) {
          throw new Error(`${raw} gives ${JSON.stringify(once)}, then ${JSON.stringify(twice)}`)
        }
      }),
      { numRuns: 5_000 },
    ),
  )
})

t.test('never changes what a path decodes to, apart from repeated slashes', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(pathText, (raw) => {
        const canonical = canonicalPath(raw)
        if (canonical === undefined) return
        const meaning = (text: string) => text.replace(/\/+/g, '/').replace(/%[0-9a-f]{2}/gi, decoded)
        return meaning(canonical.path) === meaning(raw) && meaning(canonical.key) === meaning(raw)
      }),
      { numRuns: 5_000 },
    ),
  )
})

t.test(
  'leaves no dot segment, however often a reader decodes, and whatever it takes for a separator',
  async () => {
    fc.assert(
      fc.property(pathText, (raw) => {
        let text = canonicalPath(raw)?.path
        if (text === undefined) return true
        for (let round = 0; round < 6; round++) {
          const segments = text.split(/[/\\]/).flatMap((segment) => [segment, segment.split(';', 1)[0]!])
          if (segments.some((segment) => segment === '.' || segment === '..')) return false
          text = text.replace(/%[0-9a-f]{2}/gi, decoded)
        }
        return true
      }),
      { numRuns: 5_000 },
    )
  },
)

function decoded(text: string): string {
  return String.fromCharCode(Number.parseInt(text.slice(1), 16))
}
