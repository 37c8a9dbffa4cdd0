import fc from 'fast-check'
import t from 'tap'
import { MAX_TOKEN, readToken } from '../../src/credentials/token.js'
import { base64url } from '../support/credentials/issuer.js'

const HEADER = { alg: 'ES256', kid: 'a', typ: 'JWT' }
const CLAIMS = { iss: 'https://id.example.com', sub: 'alice' }

function written(header: unknown, claims: unknown, signature = 'AAAA'): string {
  const text = (part: unknown) => (typeof part === 'string' ? part : JSON.stringify(part))
  return `${base64url(text(header))}.${base64url(text(claims))}.${signature}`
}

t.test('a token is its header and its claims', async (t) => {
  t.same(readToken(written(HEADER, CLAIMS)), { header: HEADER, claims: CLAIMS })
})

t.test('a malformed token is an error that says why', async (t) => {
  const good = written(HEADER, CLAIMS)
  const [head = '', body = '', signature = ''] = good.split('.')
  const cases: [string, string, RegExp][] = [
    ['nothing', '', /three parts/],
    ['two parts', `${head}.${body}`, /three parts/],
    ['four parts', `${good}.AAAA`, /three parts/],
    ['five parts: JWE', `${head}....${signature}`, /encrypted/],
    ['thousands of dots', '.'.repeat(8000), /three parts/],
    ['without a signature', `${head}.${body}.`, /signature is not base64url/],
    ['an empty header', `.${body}.${signature}`, /header is not base64url/],
    ['an empty payload', `${head}..${signature}`, /payload is not base64url/],
    ['padding', `${head}=.${body}.${signature}`, /not base64url/],
    [
      'base64 of the other alphabet',
      `${base64url('{"alg":"ES256","x":"???>>>"}').replaceAll('_', '/')}.${body}.AA`,
      /not base64url/,
    ],
    ['a line break within', `${head}.${body.slice(0, 4)}\n${body.slice(4)}.${signature}`, /not base64url/],
    ['a space in front', ` ${good}`, /not base64url/],
    ['one byte too long', written(HEADER, CLAIMS, 'A'.repeat(MAX_TOKEN)), /more than 8192/],
    ['no JSON', written('{"alg":"ES256"', CLAIMS), /header is not JSON/],
    ['a list', written('["alg"]', CLAIMS), /header is not a JSON object/],
    ['null', written(HEADER, 'null'), /payload is not a JSON object/],
    ['a BOM', written(HEADER, `\ufeff${JSON.stringify(CLAIMS)}`), /payload is not JSON/],
    [
      'no UTF-8',
      `${head}.${Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString('base64url')}.AA`,
      /payload is not UTF-8/,
    ],
    ['two alg', written('{"alg":"none","alg":"ES256"}', CLAIMS), /header has a member twice/],
    ['two sub', written(HEADER, '{"sub":"alice","sub":"bob"}'), /payload has a member twice/],
    ['two within a claim', written(HEADER, '{"org":[{"id":"a","id":"b"}]}'), /payload has a member twice/],
    [
      'two in other spellings',
      written(HEADER, '{"sub":"alice","s\\u0075b":"bob"}'),
      /payload has a member twice/,
    ],
    ['no alg', written({ kid: 'a' }, CLAIMS), /no algorithm/],
    ['an alg that is a list', written({ alg: ['ES256'] }, CLAIMS), /no algorithm/],
    ['crit', written({ ...HEADER, crit: ['exp'] }, CLAIMS), /crit/],
    ['b64', written({ ...HEADER, b64: false }, CLAIMS), /b64/],
    ['enc', written({ ...HEADER, enc: 'A256GCM' }, CLAIMS), /encrypted/],
    ['a kid that is a number', written({ ...HEADER, kid: 1 }, CLAIMS), /kid/],
    ['a kid without end', written({ ...HEADER, kid: 'k'.repeat(257) }, CLAIMS), /kid/],
    ['a typ that is a list', written({ ...HEADER, typ: ['JWT'] }, CLAIMS), /typ/],
  ]
  for (const [what, token, why] of cases) {
    const read = readToken(token)
    t.type(read, 'string', what)
    t.match(read, why, what)
  }
})

t.test('the last bits of the last character count: two spellings are not one token', async (t) => {
  const token = written(HEADER, CLAIMS, 'AAA')
  t.type(readToken(token), 'object')
  for (const last of ['B', 'C', 'D'])
    t.match(readToken(token.slice(0, -1) + last), /signature is not base64url/)
})

t.test('members of any name and depth are counted correctly', async (t) => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }), (claims) => {
      const text = JSON.stringify(claims)
      const read = readToken(written(HEADER, text))
      t.type(read, 'object', text)
    }),
    { numRuns: 300 },
  )
  const deep = `{"a":${'{"a":'.repeat(900)}1${'}'.repeat(901)}`
  t.type(readToken(written(HEADER, deep)), 'object', 'however deep')
  t.match(readToken(written(HEADER, deep.replace('1', '{"b":1,"b":2}'))), /member twice/)
  t.type(readToken(written(HEADER, '{"__proto__":{"x":1},"constructor":1,"a":"\\"b\\":"}')), 'object')
})

t.test('no text makes the parser throw', async (t) => {
  const part = fc.oneof(
    fc.string(),
    fc.base64String(),
    fc.json().map((json) => base64url(json)),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
      const read = readToken(parts.join('.'))
      return typeof read === 'string' || typeof read === 'object'
    }),
    { numRuns: 500 },
  )
  t.pass()
})
