import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import type { SignatureKey, SignatureSettings } from '../../src/config/snapshot/signatures.js'
import { type SignedRequest, verifySignature } from '../../src/credentials/message-signature.js'
import { signed } from '../support/credentials/signing.js'

const SECRET = 'a-secret-of-the-partner'
const KEY: SignatureKey = {
  algorithm: 'hmac-sha256',
  key: Buffer.from(SECRET).toString('base64'),
  owner: { consumer: 'acme', tier: 1, tenant: undefined, scopes: undefined },
}
const CREATED = 1_760_000_055
const NOW = CREATED * 1000 + 500

function settings(changes: Partial<SignatureSettings> = {}): SignatureSettings {
  return {
    kind: 'signature',
    keys: new Map([['k1', KEY]]),
    components: ['@method', '@path'],
    digest: true,
    maxAge: 300_000,
    leeway: 30_000,
    nonceRequired: false,
    maxNonces: 1000,
    tag: undefined,
    accepted: '',
    ...changes,
  }
}

interface Asked extends Partial<Omit<SignedRequest, 'field'>> {
  readonly fields?: Readonly<Record<string, string>>
}

function request({ fields = {}, path = '/pay', query = '', ...asked }: Asked = {}): SignedRequest {
  return {
    method: 'GET',
    scheme: 'https',
    authority: 'api.example',
    target: path + query,
    path,
    query,
    hasBody: false,
    field: (name) => fields[name],
    ...asked,
  }
}

const fieldsOf = ([, input, , signature]: readonly string[]) => ({
  'signature-input': input!,
  signature: signature!,
})

const METHOD_AND_PATH = [
  ['@method', 'GET'],
  ['@path', '/pay'],
] as const
const BY_ACME = { secret: SECRET, keyid: 'k1', created: CREATED }
const detailOf = (asked: SignedRequest, changes: Partial<SignatureSettings> = {}, now = NOW) => {
  const found = verifySignature(asked, settings(changes), now)
  return 'owner' in found ? 'good' : (found.detail ?? 'not valid')
}

/** RFC 9421 appendix B.2. */
const OF_THE_RFC = request({
  method: 'POST',
  authority: 'example.com',
  path: '/foo',
  query: '?param=Value&Pet=dog',
  hasBody: true,
})
const RFC_FIELDS = {
  date: 'Tue, 20 Apr 2021 02:07:55 GMT',
  'content-type': 'application/json',
  'content-digest':
    'sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:',
  'content-length': '18',
}

t.test("the RFC's example signatures are valid, and changed ones are not", async (t) => {
  const vectors = [
    {
      algorithm: 'hmac-sha256',
      key: 'uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==',
      input: 'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
      signature: 'sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:',
    },
    {
      algorithm: 'ed25519',
      key: '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n-----END PUBLIC KEY-----\n',
      input:
        'sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"',
      signature:
        'sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:',
    },
  ] as const
  for (const { algorithm, key, input, signature } of vectors) {
    const keyid = /keyid="([^"]+)"/.exec(input)![1]!
    const of = settings({
      keys: new Map([[keyid, { ...KEY, algorithm, key }]]),
      components: ['@authority'],
      digest: false,
    })
    const look = (fields: Record<string, string>) =>
      verifySignature(
        {
          ...OF_THE_RFC,
          field: (name) => ({ ...RFC_FIELDS, 'signature-input': input, signature, ...fields })[name],
        },
        of,
        1_618_884_475_000,
      )
    t.match(look({}), { owner: { consumer: 'acme' }, keyid }, algorithm)
    t.match(look({ date: 'Tue, 20 Apr 2021 02:07:56 GMT' }), { detail: undefined, cause: /not a signature/ })
    t.match(look({ 'signature-input': input.replace('created=1618884473', 'created=1618884474') }), {
      cause: /not a signature/,
    })
  }
})

t.test('each component is covered as it was sent', async (t) => {
  const lines = [
    ['@method', 'POST'],
    ['@target-uri', 'https://api.example/pay?a=%20b'],
    ['@authority', 'api.example'],
    ['@scheme', 'https'],
    ['@request-target', '/pay?a=%20b'],
    ['@path', '/pay'],
    ['@query', '?a=%20b'],
    ['content-digest', 'sha-256=:AQ==:'],
    ['x-empty', ''],
  ] as const
  const fields = { 'content-digest': 'sha-256=:AQ==:', 'x-empty': '' }
  const asked = request({
    method: 'POST',
    query: '?a=%20b',
    hasBody: true,
    fields: { ...fields, ...fieldsOf(signed(lines, BY_ACME)) },
  })
  t.equal(detailOf(asked), 'good')
  const plain = signed(
    [
      ['@method', 'GET'],
      ['@path', '/pay'],
      ['@query', '?'],
    ],
    BY_ACME,
  )
  t.equal(detailOf(request({ fields: fieldsOf(plain) })), 'good', 'no query is an empty one')
})

t.test('a signature must cover the required components', async (t) => {
  const only = (lines: readonly (readonly [string, string])[], asked: Asked = {}) =>
    detailOf(request({ ...asked, fields: { ...asked.fields, ...fieldsOf(signed(lines, BY_ACME)) } }))
  t.equal(only([['@method', 'GET']]), 'The signature does not cover @path.')
  t.equal(only([]), 'The signature does not cover @method.')
  const target = [
    ['@method', 'GET'],
    ['@target-uri', 'https://api.example/pay'],
  ] as const
  t.equal(only(target), 'good', 'the whole address holds the path')
  t.equal(only(METHOD_AND_PATH, { hasBody: true }), 'The signature does not cover content-digest.')
  const digest = [...METHOD_AND_PATH, ['content-digest', 'sha-256=:AQ==:']] as const
  t.equal(only(digest, { hasBody: true, fields: { 'content-digest': 'sha-256=:AQ==:' } }), 'good')
  t.equal(
    only([...METHOD_AND_PATH, ['x-gone', '']]),
    'The signature covers x-gone, which is missing or does not reach the gateway.',
  )
  for (const name of ['@query-param', '@status', '@other', 'X-Upper'])
    t.match(only([...METHOD_AND_PATH, [name, '']]), /which is missing/, name)
  t.equal(
    only([...METHOD_AND_PATH, ['@path', '/pay']]),
    'The signature is not well-formed (RFC 9421).',
    'twice',
  )
})

t.test('component parameters are not supported, so a component with one is refused', async (t) => {
  const [name, input, other, signature] = signed([...METHOD_AND_PATH, ['x-a', '1']], BY_ACME)
  for (const parameter of [';sf', ';bs', ';key="a"', ';req', ';tr']) {
    const changed = [name, input!.replace('"x-a"', `"x-a"${parameter}`), other, signature!]
    t.match(detailOf(request({ fields: { 'x-a': '1', ...fieldsOf(changed) } })), /not read here/)
    const required = [name, input!.replace('"@path"', `"@path"${parameter}`), other, signature!]
    t.match(detailOf(request({ fields: { 'x-a': '1', ...fieldsOf(required) } })), /does not cover @path/)
  }
})

t.test('a signature is valid from created for max_age, give or take the leeway', async (t) => {
  const at = (offset: number, more = '', changes: Partial<SignatureSettings> = {}) =>
    detailOf(
      request({ fields: fieldsOf(signed(METHOD_AND_PATH, { ...BY_ACME, more })) }),
      changes,
      CREATED * 1000 + offset,
    )
  t.same([at(-30_000), at(330_000)], ['good', 'good'])
  t.equal(at(-30_001), 'The signature was created in the future.')
  t.equal(at(330_001), 'The signature is too old.')
  t.equal(at(0, '', { leeway: 0 }), 'good')
  t.equal(at(-1, '', { leeway: 0 }), 'The signature was created in the future.')
  t.equal(at(40_000, `;expires=${CREATED + 10}`), 'good')
  t.equal(at(40_001, `;expires=${CREATED + 10}`), 'The signature is too old.')
  t.match(at(0, ';expires="x"'), /not well-formed/)
  const undated = signed(METHOD_AND_PATH, BY_ACME).map((text) => text.replace(`created=${CREATED};`, ''))
  t.equal(detailOf(request({ fields: fieldsOf(undated) })), 'The signature does not say when it was created.')
})

t.test('the key sets the algorithm, whatever the signature says', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const keys = new Map([...settings().keys, ['ed', { ...KEY, algorithm: 'ed25519' as const, key: pem }]])
  const look = (fields: readonly string[]) => detailOf(request({ fields: fieldsOf(fields) }), { keys })
  t.equal(look(signed(METHOD_AND_PATH, { ...BY_ACME, secret: privateKey, keyid: 'ed' })), 'good')
  t.equal(look(signed(METHOD_AND_PATH, { ...BY_ACME, more: ';alg="hmac-sha256"' })), 'good')
  t.equal(look(signed(METHOD_AND_PATH, { ...BY_ACME, more: ';alg="ed25519"' })), 'not valid')
  t.equal(
    look(signed(METHOD_AND_PATH, { ...BY_ACME, secret: pem, keyid: 'ed' })),
    'not valid',
    'a public key is no secret',
  )
  t.equal(look(signed(METHOD_AND_PATH, { ...BY_ACME, keyid: 'nobody' })), 'not valid')
})

t.test('of several signatures the one by a known key counts, with its tag', async (t) => {
  const [, first, , one] = signed(METHOD_AND_PATH, { ...BY_ACME, keyid: 'of-somebody-else', label: 'a' })
  const [, second, , two] = signed(METHOD_AND_PATH, { ...BY_ACME, more: ';tag="pay"', label: 'b' })
  const both = { 'signature-input': `${first}, ${second}`, signature: `${one},${two}` }
  t.equal(detailOf(request({ fields: both })), 'good')
  t.equal(detailOf(request({ fields: both }), { tag: 'pay' }), 'good')
  t.equal(detailOf(request({ fields: both }), { tag: 'other' }), 'not valid')
  t.match(
    detailOf(request({ fields: { ...both, signature: one! } })),
    /not well-formed/,
    'its signature is missing',
  )
  t.match(
    detailOf(request({ fields: { ...both, 'signature-input': `${first}, ${second},` } })),
    /not well-formed/,
  )
  const long = { ...both, 'signature-input': `${second};x="${'x'.repeat(4096)}"` }
  t.match(detailOf(request({ fields: long })), /not well-formed/)
})

t.test('a nonce may be required, and has a maximum length', async (t) => {
  const look = (more: string, nonceRequired = true) =>
    detailOf(request({ fields: fieldsOf(signed(METHOD_AND_PATH, { ...BY_ACME, more })) }), { nonceRequired })
  t.equal(look(';nonce="a"'), 'good')
  t.equal(look(''), 'The signature needs a nonce.')
  t.equal(look(';nonce=""', false), 'The signature needs a nonce.')
  t.equal(look(';nonce=1'), 'The signature needs a nonce.')
  t.equal(look(`;nonce="${'x'.repeat(129)}"`), 'The nonce is longer than 128 characters.')
})

t.test('changing a covered component or a bit of the signature makes it invalid', async (t) => {
  const text = fc.stringMatching(/^[!-~]([ -~]{0,8}[!-~])?$/)
  const parts = fc.record({
    method: fc.constantFrom('GET', 'POST', 'PUT'),
    authority: fc.constantFrom('a.example', 'b.example'),
    path: text.map((value) => `/${value}`),
    query: fc.option(
      text.map((value) => `?${value}`),
      { nil: '' },
    ),
    one: text,
    two: text,
  })
  type Parts = typeof parts extends fc.Arbitrary<infer P> ? P : never
  const lines = (p: Parts) =>
    [
      ['@method', p.method],
      ['@authority', p.authority],
      ['@path', p.path],
      ['@query', p.query === '' ? '?' : p.query],
      ['x-one', p.one],
      ['x-two', p.two],
    ] as const
  const asked = ({ one, two, ...rest }: Parts, fields: Record<string, string>) =>
    request({ ...rest, fields: { 'x-one': one, 'x-two': two, ...fields } })
  fc.assert(
    fc.property(parts, parts, fc.nat(31), fc.nat(7), (made, other, byte, bit) => {
      const fields = fieldsOf(signed(lines(made), BY_ACME))
      t.equal(detailOf(asked(made, fields)), 'good')
      // Where two differ in a signed part, the signature of one is not valid for the other.
      const same = JSON.stringify(lines(made)) === JSON.stringify(lines(other))
      t.equal(detailOf(asked(other, fields)) === 'good', same)
      for (const name of Object.keys(made) as (keyof Parts)[]) {
        const mixed = { ...made, [name]: other[name] }
        const equal = JSON.stringify(lines(made)) === JSON.stringify(lines(mixed))
        t.equal(detailOf(asked(mixed, fields)) === 'good', equal, name)
      }
      const bytes = Buffer.from(fields.signature.slice(5, -1), 'base64')
      bytes[byte]! ^= 1 << bit
      t.equal(
        detailOf(asked(made, { ...fields, signature: `sig=:${bytes.toString('base64')}:` })),
        'not valid',
      )
    }),
    { numRuns: 150 },
  )
})
