import fc from 'fast-check'
import t from 'tap'
import { compileRewrite, rewritten } from '../../../src/config/values/rewrite.js'
import { canonicalPath } from '../../../src/net/path.js'

const to = (path: string, rewrite: string, asked: string) => rewritten(compileRewrite(path, rewrite), asked)

t.test('a rewrite puts the captured parts into a new path', async (t) => {
  t.equal(to('/v1/*', '/v2/*', '/v1/a/b'), '/v2/a/b')
  t.equal(to('/users/:id/orders', '/orders/of/:id', '/users/7/orders'), '/orders/of/7')
  t.equal(to('/:a/:b/*', '/:b/:a/x/*', '/one/two/three/four'), '/two/one/x/three/four')
  t.equal(to('/users/:id', '/me', '/users/7'), '/me')
  t.equal(to('/x', '/', '/x'), '/')
})

t.test('* may capture nothing, with and without its slash', async (t) => {
  t.equal(to('/v1/*', '/v2/*', '/v1'), '/v2')
  t.equal(to('/v1/*', '/v2/*', '/v1/'), '/v2/')
  t.equal(to('/v1/*', '/*', '/v1'), '/')
  t.equal(to('/*', '/v2/*', '/'), '/v2/')
})

t.test('an escape remains part of its segment', async (t) => {
  t.equal(to('/users/:id', '/people/:id', '/users/a%2Fb'), '/people/a%2Fb')
  t.equal(to('/users/:id', '/people/:id', '/users/%40me'), '/people/%40me')
})

t.test('the result is as canonical as the path was', async (t) => {
  const piece = fc.constantFrom(
    'a',
    '.',
    '..',
    '%2e',
    '%2E%2e',
    '%2f',
    '%5c',
    ';x',
    '%3b',
    '%25',
    '2e',
    '%00',
    '/',
    '~',
    'x.y',
  )
  const raw = fc.array(piece, { maxLength: 12 }).map((pieces) => `/v1/${pieces.join('')}`)
  let canonicals = 0
  fc.assert(
    fc.property(raw, fc.constantFrom('/v2/*', '/*', '/a/b/*'), (text, rewrite) => {
      const canonical = canonicalPath(text)
      if (canonical === undefined) return true
      canonicals++
      const result = to('/v1/*', rewrite, canonical.path)
      const again = canonicalPath(result)
      return again?.path === result && (canonical.encoded || !again.encoded)
    }),
    { numRuns: 2000 },
  )
  t.ok(canonicals > 100, `${canonicals} of the paths were accepted at all`)
})
