import fc from 'fast-check'
import * as others from 'structured-headers'
import t from 'tap'
import { readByteSequences, readInnerLists } from '../../src/credentials/structured-fields.js'

/** Compares the parser with the package `structured-headers`, which reads all of RFC 9651: ours reads the same, or nothing. */

/** Reads with the other parser and serializes anew, in order; undefined if that is no dictionary of our kind. */
function theirs(text: string): [string, string][] | undefined {
  let dictionary: others.Dictionary
  try {
    dictionary = others.parseDictionary(text)
  } catch {
    return undefined
  }
  return [...dictionary].map(([name, member]) => [
    name,
    others.serializeDictionary(new Map([[name, member]])).slice(name.length + 1),
  ])
}

const lists = (text: string) => [...(readInnerLists(text) ?? [])].map(([name, { text }]) => [name, text])

t.test('lists are parsed with their parameters, and serialized canonically', async (t) => {
  t.same(lists('sig1=("@method" "date");created=1;keyid="k"'), [
    ['sig1', '("@method" "date");created=1;keyid="k"'],
  ])
  t.same(lists(' a=(  "x"  "y";sf ) ;n=?0;m=?1;b=:AQ==:;t=to/k:en\t, \tb=()'.replace(') ;', ');')), [
    ['a', '("x" "y";sf);n=?0;m;b=:AQ==:;t=to/k:en'],
    ['b', '()'],
  ])
  t.same(lists('a=();n=-007;z=-0;q="a\\"b\\\\"'), [['a', '();n=-7;z=0;q="a\\"b\\\\"']])
  const list = readInnerLists('a=("x" "a\\"b");created=12;nonce="n\\\\"')!.get('a')!
  t.same(
    list.items.map(({ value }) => value),
    ['x', 'a"b'],
  )
  t.same(
    list.parameters.map(({ name, value }) => [name, value]),
    [
      ['created', 12],
      ['nonce', 'n\\'],
    ],
  )
  t.same(
    [...readByteSequences('a=:AQID:, b=::')!],
    [
      ['a', Buffer.from([1, 2, 3])],
      ['b', Buffer.alloc(0)],
    ],
  )
})

t.test('any other text is refused', async (t) => {
  const bad = [
    ...[
      '',
      ' ',
      'a',
      'a=',
      'a=(',
      'a=()x',
      'a=(x)',
      'a=(1)',
      'a=("x""y")',
      'a=("x"\t"y")',
      'a=("x),',
      'A=()',
    ],
    ...['a=(),', 'a=(),,b=()', 'a=() b=()', 'a=();B=1', 'a=();b=', 'a=();b=1.5', 'a=();b=1234567890123456'],
    ...[
      'a=();b=@1',
      'a=();b=%"x"',
      'a=();b=?2',
      'a=();b=:A:',
      'a=();b=:AR==:',
      'a=();b="\x7f"',
      'a=();b="\\x"',
    ],
    ...['a="x"', 'a=:AQ==:', 'a=1', 'a=();b=1;b=2', 'a=(), a=()', 'a=() ;b=1', '\ta=()', 'a =()', 'a= ()'],
  ]
  for (const text of bad) t.equal(readInnerLists(text), undefined, JSON.stringify(text))
  for (const text of [
    '',
    'a',
    'a=()',
    'a=:AQ',
    'a=:A*:',
    'a=:AQ==:;b',
    'a=:AQ==:,',
    'a=:AQ=:',
    'a=:AQ==:,a=:AQ==:',
  ])
    t.equal(readByteSequences(text), undefined, JSON.stringify(text))
})

t.test('the other parser reads the same', async (t) => {
  const piece = fc.constantFrom(
    ...[
      'a',
      'b1',
      'sig',
      '=',
      '(',
      ')',
      '"',
      '\\',
      ' ',
      '\t',
      ',',
      ';',
      ':',
      '?',
      '1',
      '-',
      '.',
      '@',
      '"@method"',
      '"x"',
    ],
    ...[
      ';created=1',
      ';keyid="k"',
      '=(',
      ')',
      ', b=()',
      ':AQ==:',
      ';n=?1',
      ';m',
      'a=("x" "y")',
      '*',
      '/',
      'Z',
      '\x80',
    ],
  )
  const start = fc.constantFrom('', 'a=()', 'a=("x"', 'a=("x");n=', 'a=:AQ==:')
  let read = 0
  fc.assert(
    fc.property(
      fc.oneof(
        fc
          .tuple(
            start,
            fc.array(piece, { maxLength: 3 }).map((all) => all.join('')),
          )
          .map((all) => all.join('')),
        fc.string(),
      ),
      (text) => {
        const inner = readInnerLists(text)
        if (inner !== undefined) {
          read++
          t.same(lists(text), theirs(text), JSON.stringify(text))
        }
        const bytes = readByteSequences(text)
        if (bytes !== undefined) {
          const same = [...bytes].map(([name, value]) => [name, `:${value.toString('base64')}:`])
          t.same(same, theirs(text), JSON.stringify(text))
        }
      },
    ),
    { numRuns: 3000, examples: [['a=("x" "y");created=1, b=()'], ['sig=:AQ==:']] },
  )
  t.ok(read > 50, `${read} were lists`)
})

t.test('what the other serializer writes is read', async (t) => {
  const name = fc.stringMatching(/^[a-z*][a-z0-9_.*-]{0,6}$/)
  const ascii = fc.stringMatching(/^[ -~]{0,10}$/)
  const bare = fc.oneof(ascii, fc.integer(), fc.boolean())
  const parameters = fc.uniqueArray(fc.tuple(name, bare), { selector: ([key]) => key, maxLength: 4 })
  const item = fc.tuple(
    ascii,
    parameters.map((all) => new Map(all)),
  )
  const inner = fc.tuple(
    fc.array(item, { maxLength: 4 }),
    parameters.map((all) => new Map(all)),
  )
  const dictionary = fc.uniqueArray(fc.tuple(name, inner), {
    selector: ([key]) => key,
    minLength: 1,
    maxLength: 3,
  })
  fc.assert(
    fc.property(dictionary, (members) => {
      const text = others.serializeDictionary(new Map(members))
      const found = readInnerLists(text)
      t.same(
        [...(found?.keys() ?? [])],
        members.map(([key]) => key),
        text,
      )
      t.equal(
        lists(text)
          .map(([key, list]) => `${key}=${list}`)
          .join(', '),
        text,
      )
    }),
    { numRuns: 300 },
  )
})
