import { METHODS } from 'node:http'
import fc from 'fast-check'
import t from 'tap'
import { compileRouter, type Pattern, shapeOf } from '../../../src/config/snapshot/router.js'
import { canonicalPath } from '../../../src/net/path.js'

/** `GET,POST host,host/path` */
function pattern(text: string): Pattern & { text: string } {
  const [, methods = '', hosts = '', path = ''] = /^(?:([A-Z,]+) )?([^/]*)(\/.*)$/.exec(text) ?? []
  return {
    text,
    path,
    methods: methods === '' ? [] : methods.split(','),
    hosts: hosts === '' ? [] : hosts.split(','),
  }
}

function router(...texts: string[]) {
  const match = compileRouter(texts.map(pattern))
  return (method: string, host: string, path: string) => {
    const found = match(method, host, canonicalPath(path)?.key ?? path)
    return found === undefined ? undefined : 'text' in found ? found.text : found
  }
}

t.test('a literal segment wins over a parameter, a parameter over a wildcard', async (t) => {
  const match = router('/*', '/users/*', '/users/:id', '/users/me', '/users/:id/orders', '/users/me/*')
  t.equal(match('GET', '', '/users/me'), '/users/me')
  t.equal(match('GET', '', '/users/7'), '/users/:id')
  t.equal(match('GET', '', '/users/7/orders'), '/users/:id/orders')
  t.equal(match('GET', '', '/users/me/orders'), '/users/me/*')
  t.equal(match('GET', '', '/users/7/orders/1'), '/users/*')
  t.equal(match('GET', '', '/users'), '/users/*')
  t.equal(match('GET', '', '/'), '/*')
  t.equal(match('GET', '', '/Users/me'), '/*', 'case differs')
})

t.test('a wildcard also matches the path before it, and nothing with the same beginning', async (t) => {
  const match = router('/payments/*')
  for (const path of ['/payments', '/payments/', '/payments/x', '/payments/x/y/', '//payments//x']) {
    t.equal(match('GET', '', path), '/payments/*', path)
  }
  for (const path of ['/payments-internal', '/paymentsx/y', '/payment', '/']) {
    t.equal(match('GET', '', path), undefined, path)
  }
})

t.test('a route of exactly that path wins over the wildcard', async (t) => {
  const match = router('/payments/*', 'POST /payments')
  t.equal(match('POST', '', '/payments/'), 'POST /payments')
  t.equal(match('GET', '', '/payments'), '/payments/*')
})

t.test('a path with and without a slash at the end is one path', async (t) => {
  const match = router('/a', '/b/', '/c/:id')
  for (const path of ['/a', '/a/', '/b', '/b/', '/c/1', '/c/1/'])
    t.type(match('GET', '', path), 'string', path)
  t.equal(match('GET', '', '/c'), undefined)
  t.equal(match('GET', '', '/c/'), undefined)
  t.equal(router('/:x')('GET', '', '/'), undefined, 'no parameter is empty')
})

t.test('a route that names the method wins over one that names none', async (t) => {
  const match = router('/a', 'POST,PUT /a', '/a/*', 'DELETE /a/b')
  t.equal(match('POST', '', '/a'), 'POST,PUT /a')
  t.equal(match('GET', '', '/a'), '/a')
  t.equal(match('DELETE', '', '/a/b'), 'DELETE /a/b')
  t.equal(match('GET', '', '/a/b'), '/a/*', 'a route of the path without the method leaves it to the next')
})

t.test('GET includes HEAD unless HEAD has a route of its own', async (t) => {
  t.equal(router('GET /a')('HEAD', '', '/a'), 'GET /a')
  t.equal(router('GET /a', '/a')('HEAD', '', '/a'), 'GET /a')
  t.equal(router('GET /a', 'HEAD /a')('HEAD', '', '/a'), 'HEAD /a')
  t.same(router('POST /a')('HEAD', '', '/a'), ['POST'])
})

t.test('a route without methods takes all that Node knows, except CONNECT and TRACE', async (t) => {
  const match = router('/a')
  for (const method of METHODS) {
    const takes = method !== 'CONNECT' && method !== 'TRACE'
    t.equal(typeof match(method, '', '/a') === 'string', takes, method)
  }
  t.equal(typeof router('/a', 'GET /b')('PURGE', '', '/a'), 'string')
})

t.test('for an unknown method all methods of the path are listed, over all hosts', async (t) => {
  const match = router('GET,POST /a/:id', 'PUT api.example.com/a/*', 'DELETE *.example.com/a/b', 'PATCH /c')
  t.same(match('DELETE', 'other.org', '/a/b'), ['GET', 'HEAD', 'POST'])
  t.same(match('PATCH', 'api.example.com', '/a/b'), ['DELETE', 'GET', 'HEAD', 'POST', 'PUT'])
  t.same(match('BREW', 'api.example.com', '/c'), ['PATCH'])
  for (const method of ['__proto__', 'constructor', 'get', '', 'toString']) {
    t.same(match(method, '', '/c'), ['PATCH'], method)
  }
  t.equal(match('GET', '', '/nothing'), undefined)
})

t.test('the exact host wins, then the longest suffix, then any; with fallback', async (t) => {
  const match = router(
    '/a',
    '/b',
    'api.example.com/a',
    '*.example.com/a',
    '*.eu.example.com/a',
    '*.example.com/c',
    'GET example.com/a',
  )
  t.equal(match('GET', 'api.example.com', '/a'), 'api.example.com/a')
  t.equal(match('GET', 'www.example.com', '/a'), '*.example.com/a')
  t.equal(match('GET', 'www.eu.example.com', '/a'), '*.eu.example.com/a')
  t.equal(match('GET', 'very.deep.example.com', '/a'), '*.example.com/a')
  t.equal(match('GET', 'eu.example.com', '/a'), '*.example.com/a', 'a suffix does not take its own name')
  t.equal(match('GET', 'example.com', '/a'), 'GET example.com/a')
  t.equal(match('POST', 'example.com', '/a'), '/a', 'no such method there')
  t.equal(match('GET', 'api.example.com', '/b'), '/b', 'no such path there')
  t.equal(match('GET', 'api.example.com', '/c'), '*.example.com/c')
  t.equal(match('GET', 'notexample.com', '/a'), '/a')
  t.equal(match('GET', '.example.com', '/a'), '/a', 'nothing stands before the suffix')
  t.equal(match('GET', '', '/a'), '/a')
  t.equal(match('GET', 'example.org', '/c'), undefined)
})

t.test('no host matches a property that every object has', async (t) => {
  const match = router('constructor.example.com/a', 'example.com/a')
  for (const host of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    t.equal(match('GET', host, '/a'), undefined, host)
  }
})

t.test('escapes are matched as they stand, and separate nothing', async (t) => {
  const match = router(
    '/caf%C3%A9/*',
    '/a/:x',
    '/a/:x/c',
    '/100%25',
    '/x%2Fy',
    '/star/:x',
    '/colon/v1:go',
    '/q/*',
  )
  t.equal(match('GET', '', '/caf%c3%a9/menu'), '/caf%C3%A9/*')
  t.equal(match('GET', '', '/a/b%2Fc'), '/a/:x')
  t.equal(match('GET', '', '/a/b%3Fc'), '/a/:x')
  t.equal(match('GET', '', '/a/b;c'), '/a/:x')
  t.equal(match('GET', '', '/a/b%2fx/c'), '/a/:x/c')
  t.equal(match('GET', '', '/100%25'), '/100%25')
  t.equal(match('GET', '', '/x%2fy'), '/x%2Fy')
  t.equal(match('GET', '', '/x/y'), undefined)
  t.equal(match('GET', '', '/star/%2A'), '/star/:x')
  t.equal(match('GET', '', '/star/*'), '/star/:x')
  t.equal(match('GET', '', '/colon/v1:go'), '/colon/v1:go')
  t.equal(match('GET', '', '/colon/v1%3Ago'), '/colon/v1:go')
  t.equal(match('GET', '', '/colon/v1xgo'), undefined)
  // Malformed UTF-8, cut UTF-8, surrogates: no path makes the router throw or give up.
  for (const path of ['/q/%FF', '/q/%C3', '/q/%ED%A0%80', '/q/%25%32', '/q/%F0%9F%98%80']) {
    t.equal(match('GET', '', path), '/q/*', path)
  }
})

t.test('text that is no path matches nothing', async (t) => {
  const match = compileRouter([pattern('/*')])
  for (const path of ['', '*', 'a', 'http://x/y', 'x://a.b/'])
    t.equal(match('GET', '', path), undefined, path)
})

t.test('names of parameters do not matter', async (t) => {
  const match = router('/a/:__proto__/b', '/a/:constructor/c/:a/:b/:c/:d/:e')
  t.equal(match('GET', '', '/a/__proto__/b'), '/a/:__proto__/b')
  t.equal(match('GET', '', '/a/x/c/1/2/3/4/5'), '/a/:constructor/c/:a/:b/:c/:d/:e')
})

t.test('a segment may have 16 KiB, and a path thousands of segments', async (t) => {
  const match = router('/a/:x', '/a/:x/:y/b', '/:p/a/:q/a/:r/a/*')
  t.equal(match('GET', '', `/a/${'x'.repeat(16_384)}`), '/a/:x')
  const started = performance.now()
  for (let i = 0; i < 100; i++) match('GET', '', '/a'.repeat(8000))
  t.ok(performance.now() - started < 10_000)
})

const segment = fc.constantFrom('a', 'b', 'a:b', '%20')
const path = fc
  .tuple(fc.array(fc.oneof(segment, fc.constant(':x'), fc.constant(':y')), { maxLength: 3 }), fc.boolean())
  .map(([segments, wildcard]) => `/${[...segments, ...(wildcard ? ['*'] : [])].join('/')}`)
const method = fc.constantFrom('GET', 'HEAD', 'POST', 'PURGE')
const patterns = fc
  .array(
    fc.record({
      path,
      hosts: fc.uniqueArray(fc.constantFrom('x.org', 'a.x.org', '*.x.org', '*.a.x.org'), { maxLength: 2 }),
      methods: fc.uniqueArray(method, { maxLength: 2 }),
    }),
    { maxLength: 10 },
  )
  .map(withoutOverlaps)

/** Routes that a configuration file may hold: no two for the same requests. */
function withoutOverlaps(list: Pattern[]): Pattern[] {
  const claimed = new Set<string>()
  return list.filter(({ path, hosts, methods }) => {
    const claims = (hosts.length === 0 ? ['*'] : hosts).flatMap((host) =>
      (methods.length === 0 ? ['any'] : methods).map((method) => `${host} ${shapeOf(path)} ${method}`),
    )
    if (claims.some((claim) => claimed.has(claim))) return false
    for (const claim of claims) claimed.add(claim)
    return true
  })
}

/** The rules of the reference page: returns how well a route fits, or undefined if it does not. */
function fit(route: Pattern, method: string, host: string, path: string): number[] | undefined {
  const hostRank = route.hosts.length === 0 ? 0 : Math.max(...route.hosts.map((own) => fitHost(own, host)))
  const byName = route.methods.includes(method)
    ? 3
    : method === 'HEAD' && route.methods.includes('GET')
      ? 2
      : 0
  const methodRank = route.methods.length === 0 ? 1 : byName
  const pathRank = fitPath(route.path, path)
  if (hostRank < 0 || methodRank === 0 || pathRank === undefined) return undefined
  return [hostRank, ...pathRank, methodRank]
}

function fitHost(own: string, host: string): number {
  if (own === host) return 1000
  return own.startsWith('*.') && host.endsWith(own.slice(1)) && host.length >= own.length ? own.length : -1
}

/** 4 for a literal segment, 3 a parameter, 2 the end, 1 a wildcard; padded, so that it compares position by position. */
function fitPath(own: string, path: string): number[] | undefined {
  const ownSegments = own.split('/').filter((segment) => segment !== '')
  const segments = path.split('/').filter((segment) => segment !== '')
  const ranks: number[] = []
  for (let i = 0; i < 8; i++) {
    const mine = ownSegments[i]
    if (mine === '*') ranks.push(1)
    else if (mine === undefined && segments[i] === undefined) ranks.push(2)
    else if (mine === undefined || segments[i] === undefined) return undefined
    else if (mine.startsWith(':')) ranks.push(3)
    else if (mine === segments[i]) ranks.push(4)
    else return undefined
    if (mine === '*' || mine === undefined) break
  }
  return [...ranks, ...Array(8 - ranks.length).fill(0)]
}

function better(a: number[], b: number[]): boolean {
  const i = a.findIndex((rank, k) => rank !== b[k])
  return i >= 0 && a[i]! > b[i]!
}

t.test('every lookup follows the rules, whatever the order of the routes', async (t) => {
  const request = fc.record({
    method,
    host: fc.constantFrom('', 'x.org', 'a.x.org', 'b.x.org', 'b.a.x.org', 'y.org'),
    path: fc
      .tuple(fc.array(segment, { maxLength: 4 }), fc.constantFrom('', '/'))
      .map(([segments, slash]) => (segments.length === 0 ? '/' : `/${segments.join('/')}${slash}`)),
  })
  fc.assert(
    fc.property(patterns, fc.array(request, { minLength: 1, maxLength: 10 }), (routes, requests) => {
      const matches = [compileRouter(routes), compileRouter([...routes].reverse())]
      for (const { method, host, path } of requests) {
        let best: { route: Pattern; ranks: number[] } | undefined
        for (const route of routes) {
          const ranks = fit(route, method, host, path)
          if (ranks !== undefined && (best === undefined || better(ranks, best.ranks)))
            best = { route, ranks }
        }
        for (const match of matches) {
          const found = match(method, host, path)
          if (best !== undefined) {
            if (found !== best.route) return false
          } else {
            const has = (method: string) =>
              routes.some((route) => fit(route, method, host, path) !== undefined)
            const allowed = METHODS.filter(
              (name) => name !== 'CONNECT' && name !== 'TRACE' && has(name),
            ).sort()
            if (JSON.stringify(found ?? []) !== JSON.stringify(allowed)) return false
          }
        }
      }
      return true
    }),
    { numRuns: 500 },
  )
  t.pass('500 tables of routes')
})
