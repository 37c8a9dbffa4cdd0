import t from 'tap'
import type { Refusal } from '../../../src/errors.js'
import { MAX_TARGET, matchRoute } from '../../../src/gateway/stages/route.js'
import { type Asked, exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const snapshot = snapshotOf(`
tiers: [free]
services:
  payments: { upstreams: [http://127.0.0.1:9001] }
  files: { upstreams: [http://127.0.0.1:9002] }
  tenants: { upstreams: [http://127.0.0.1:9003] }
routes:
  - { path: /payments/*, service: payments, strip_prefix: /payments }
  - { path: /payments/refunds, methods: [POST], service: payments, cost: 5 }
  - { path: /payments/report, methods: [GET, PUT], service: payments, cost: 2 }
  - { path: "/users/@me", service: payments, cost: 3 }
  - { path: /users/:id, service: payments }
  - { path: /read-only, methods: [GET], service: payments }
  - { path: /files/*, service: files, allow_encoded: true }
  - { path: "/a:b/*", service: files, strip_prefix: "/a:b" }
  - { host: api.example.com, path: /payments/*, service: tenants }
  - { host: "*.example.com", path: /payments/*, service: tenants, cost: 7 }
  - { host: "[2001:db8::1]", path: /payments/*, service: tenants, cost: 8 }
`)

function route(asked: Asked) {
  const x = exchangeFor(snapshot, asked)
  return { x, refusal: matchRoute(x) }
}

t.test('finds the most specific route for method and path', async (t) => {
  const found = [
    ['GET', '/payments', 1],
    ['GET', '/payments/', 1],
    ['GET', '/payments/17', 1],
    ['POST', '/payments/refunds', 5],
    ['POST', '/payments/refunds/', 5],
    ['POST', '/payments/refunds?all=yes', 5],
    ['GET', '/payments/refunds', 1],
    ['PUT', '/payments/report', 2],
    ['HEAD', '/payments/report', 2],
    ['PROPFIND', '/payments/17', 1],
    ['GET', '/users/@me', 3],
    ['GET', '/users/%40me', 3],
    ['GET', '/users/you', 1],
  ] as const
  for (const [method, target, cost] of found) {
    const { x, refusal } = route({ method, target })
    t.equal(refusal, undefined, `${method} ${target}`)
    t.equal(x.route?.cost, cost, `${method} ${target}`)
  }
})

t.test('keeps path and query apart, and the path in its canonical form', async (t) => {
  const { x } = route({ target: '//payments//%61%2d%7e%c3%a9%3a?q=%2e.%2f/../x?y' })
  t.equal(x.path, '/payments/a-~%C3%A9%3A')
  t.equal(x.query, '?q=%2e.%2f/../x?y', 'the query is not touched')
  t.equal(route({ target: '/payments?' }).x.query, '?')
})

t.test('a path without a route is 404', async (t) => {
  for (const target of ['/', '/payment', '/paymentsx', '/Payments', '/users', '/users/a/b']) {
    t.same(route({ target }).refusal, { code: 'no_route' }, target)
  }
})

t.test('a path that has routes for other methods is 405, and Allow names them', async (t) => {
  t.same(route({ method: 'DELETE', target: '/read-only' }).refusal, {
    code: 'method_not_allowed',
    headers: ['Allow', 'GET, HEAD'],
  })
})

t.test('TRACE and CONNECT are 405 whatever the path', async (t) => {
  for (const method of ['TRACE', 'CONNECT']) {
    for (const target of ['/payments/1', '*', 'example.com:443']) {
      t.same(route({ method, target }).refusal, {
        code: 'method_not_allowed',
        headers: ['Allow', ''],
        detail: 'The gateway never forwards TRACE or CONNECT.',
      })
    }
  }
})

t.test('methods are case-sensitive: another case or a name of Object matches no route', async (t) => {
  for (const method of ['get', 'constructor', '__proto__', 'toString']) {
    t.match(route({ method, target: '/payments/1' }).refusal, { code: /no_route|method_not_allowed/ }, method)
  }
})

t.test('the host decides before the path: exact, then wildcard, then any', async (t) => {
  const found = [
    ['api.example.com', 'tenants', 1],
    ['API.Example.COM', 'tenants', 1],
    ['api.example.com:8080', 'tenants', 1],
    ['api.example.com.', 'tenants', 1],
    ['api.example.com.:80', 'tenants', 1],
    ['shop.example.com', 'tenants', 7],
    ['a.b.example.com', 'tenants', 7],
    ['example.com', 'payments', 1],
    ['notexample.com', 'payments', 1],
    ['192.0.2.1:80', 'payments', 1],
    ['[2001:db8::1]', 'tenants', 8],
    ['[2001:db8::1]:8080', 'tenants', 8],
  ] as const
  for (const [host, service, cost] of found) {
    const { x, refusal } = route({ target: '/payments/1', headers: ['Host', host] })
    t.equal(refusal, undefined, host)
    t.match(x.route, { service: { name: service }, cost }, host)
  }
})

t.test('an invalid Host is 400', async (t) => {
  const bad = [
    '',
    ' ',
    'a b',
    'a/b',
    'user@example.com',
    'a b/c@d',
    'example.com:port',
    'example.com:123456',
    'exa%6dple.com',
    'a,b',
    '-a',
    '.example.com',
    '[::1',
    '::1',
    '[zz]',
    'ex\u00e4mple.com',
    'a'.repeat(300),
    'http://example.com',
    'example.com#',
    'example.com\\',
  ]
  for (const host of bad) {
    t.match(route({ target: '/payments/1', headers: ['Host', host] }).refusal, { code: 'bad_host' }, host)
  }
})

t.test('an absolute target is routed by its path, and its host must equal Host', async (t) => {
  const same = [
    ['http://api.example.com/payments/1', 'api.example.com', '/payments/1'],
    ['HTTPS://API.example.com/payments/1?x=1', 'api.example.com', '/payments/1'],
    ['http://api.example.com:80/payments', 'api.example.com:80', '/payments'],
  ] as const
  for (const [target, host, path] of same) {
    const { x, refusal } = route({ target, headers: ['Host', host] })
    t.equal(refusal, undefined, target)
    t.match(x, { path, host: 'api.example.com', route: { service: { name: 'tenants' } } }, target)
  }
  t.match(route({ target: 'http://api.example.com?x', headers: ['Host', 'api.example.com'] }), {
    x: { path: '/', query: '?x' },
    refusal: { code: 'no_route' },
  })
  for (const target of ['http://evil.example/payments/1', 'http://api.example.com.evil.example/payments/1']) {
    t.match(route({ target, headers: ['Host', 'api.example.com'] }).refusal, { code: 'bad_host' }, target)
  }
  for (const host of ['user@api.example.com', '', 'api.example.com\\@evil.example']) {
    const target = `http://${host}/payments/1`
    t.match(route({ target, headers: ['Host', host] }).refusal, { code: 'bad_host' }, target)
  }
})

t.test('a malformed target is 400', async (t) => {
  for (const target of [
    '*',
    '',
    'payments',
    'ftp://gateway.example/payments',
    'javascript:alert(1)',
    '?x',
    'http:/x',
  ]) {
    t.match(route({ target }).refusal, { code: 'bad_target' }, target)
  }
})

t.test(
  'a dot segment is 400, and so is a path with several readings unless its route allows it',
  async (t) => {
    for (const target of [
      '/payments/a%2fb',
      '/payments/a%5Cb',
      '/payments/a;b=1',
      '/payments/a%3bb',
      '/payments/%2541',
    ]) {
      t.match(route({ target }).refusal, { code: 'bad_target', detail: /escaped slash/ }, target)
    }
    for (const target of ['/files/a%2fb', '/files/a%5Cb', '/files/a;b=1', '/files/%2541']) {
      t.equal(route({ target }).refusal, undefined, target)
    }
    for (const prefix of ['/payments', '/files']) {
      for (const rest of ['/../x', '/..%2fx', '/%2e%2e/x', '/..;/x', '/%252e%252e/x', '/a\\b', '/%00']) {
        t.match(route({ target: prefix + rest }).refusal, { code: 'bad_target' }, prefix + rest)
      }
    }
  },
)

t.test('an escaped ? or # is part of the path, unless without it another route would match', async (t) => {
  for (const target of ['/payments/who%3F', '/payments/c%23/x', '/users/you%3f', '/files/who%3F']) {
    t.equal(route({ target }).refusal, undefined, target)
  }
  for (const target of ['/payments/report%3F', '/payments/report%23/x', '/users/@me%3fx']) {
    t.match(route({ target }).refusal, { code: 'bad_target', detail: /escaped slash/ }, target)
  }
})

t.test('a path that spells the stripped prefix differently is 400', async (t) => {
  t.equal(route({ target: '/a:b/c%3Ad' }).refusal, undefined)
  t.match(route({ target: '/a%3Ab/c' }).refusal, { code: 'bad_target' })
})

t.test('a query with a space, a control character or a # is 400', async (t) => {
  for (const target of [
    '/payments?a b',
    '/payments?a\tb',
    '/payments?a#b',
    '/payments?\u007f',
    '/payments?\r\n',
  ]) {
    t.match(route({ target }).refusal, { code: 'bad_target', detail: /query/ }, JSON.stringify(target))
  }
})

t.test('bytes that no URI may hold are forwarded escaped, and match the escaped route', async (t) => {
  const { x, refusal } = route({ target: '/payments/a"<b>^`{c|d}?e="<f>^`{g|h}\\' })
  t.equal(refusal, undefined)
  t.equal(x.path, '/payments/a%22%3Cb%3E%5E%60%7Bc%7Cd%7D')
  t.equal(x.query, '?e=%22%3Cf%3E%5E%60%7Bg%7Ch%7D%5C')
  t.equal(route({ target: x.path }).x.path, x.path)
})

t.test('the default port of a scheme makes no other host', async (t) => {
  for (const [target, host] of [
    ['http://api.example.com:80/payments/1', 'api.example.com'],
    ['http://api.example.com/payments/1', 'API.example.com:80'],
    ['https://api.example.com/payments/1', 'api.example.com:443'],
    ['http://api.example.com:/payments/1', 'api.example.com'],
  ] as const)
    t.match(
      route({ target, headers: ['Host', host] }),
      { refusal: undefined, x: { host: 'api.example.com' } },
      target,
    )
  for (const [target, host] of [
    ['http://api.example.com:443/payments/1', 'api.example.com'],
    ['https://api.example.com:80/payments/1', 'api.example.com'],
    ['http://api.example.com:8080/payments/1', 'api.example.com'],
  ] as const)
    t.match(route({ target, headers: ['Host', host] }).refusal, { code: 'bad_host' }, target)
})

t.test('a target of 8,192 characters passes, a longer one is 414', async (t) => {
  t.equal(route({ target: '/payments/'.padEnd(MAX_TARGET, 'a') }).refusal, undefined)
  t.same(route({ target: '/payments/'.padEnd(MAX_TARGET + 1, 'a') }).refusal, {
    code: 'uri_too_long',
  } satisfies Refusal)
})
