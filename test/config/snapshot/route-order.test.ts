import fc from 'fast-check'
import t from 'tap'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import { mostSpecificFirst } from '../../../src/config/snapshot/route-order.js'
import { compileSnapshot, type Route, type Snapshot } from '../../../src/config/snapshot/snapshot.js'

interface Pattern {
  readonly host: string
  readonly path: string
  readonly methods: readonly string[]
}

function compile(patterns: readonly Pattern[]): Snapshot | undefined {
  const routes = patterns.map(({ host, path, methods }) => ({
    path,
    service: 'api',
    ...(host === '' ? {} : { host }),
    ...(methods.length === 0 ? {} : { methods }),
  }))
  const text = JSON.stringify({
    tiers: ['free'],
    services: { api: { upstreams: ['http://127.0.0.1:1'] } },
    routes,
  })
  const loaded = loadConfig(text, { file: 'test.yaml', env: {} })
  if (loaded.ok) return compileSnapshot(loaded.config, 0)
  // Two routes for the same requests are an error of the file: there is nothing to put in order.
  if (loaded.errors.every(({ message }) => /same|shadow|twice|never/.test(message))) return undefined
  throw new Error(loaded.errors.map(formatError).join('\n'))
}

const segment = fc.constantFrom('a', 'b', ':x')
const pattern: fc.Arbitrary<Pattern> = fc.record({
  host: fc.constantFrom('', 'a.example.com', '*.example.com', '*.com'),
  path: fc
    .tuple(fc.array(segment, { maxLength: 3 }), fc.boolean())
    .map(([parts, any]) => `/${[...parts, ...(any ? ['*'] : [])].join('/')}`),
  methods: fc.constantFrom([], ['GET'], ['POST'], ['GET', 'POST']),
})
/** The parameters of one path need distinct names. */
const numbered = pattern.map((p) => {
  let n = 0
  return { ...p, path: p.path.replace(/:x/g, () => `:x${n++}`) }
})

function fits(
  { route, host }: { route: Route; host: string },
  method: string,
  toHost: string,
  path: string,
): boolean {
  if (host !== '' && (host.startsWith('*') ? !toHost.endsWith(host.slice(1)) : host !== toHost)) return false
  if (route.methods.length > 0 && !route.methods.includes(method)) return false
  const want = route.path.split('/').filter(Boolean)
  const have = path.split('/').filter(Boolean)
  const end = want.indexOf('*')
  if (end < 0 ? want.length !== have.length : have.length < end) return false
  return want.every((part, i) => part === '*' || part.startsWith(':') || part === have[i])
}

t.test('a request takes the first line of the route table that matches it', async (t) => {
  const request = fc.record({
    method: fc.constantFrom('GET', 'POST', 'PUT'),
    host: fc.constantFrom('a.example.com', 'b.example.com', 'c.com', 'd.org'),
    path: fc
      .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 4 })
      .map((parts) => `/${parts.join('/')}`),
  })
  let compared = 0
  fc.assert(
    fc.property(
      fc.array(numbered, { minLength: 1, maxLength: 6 }),
      fc.array(request, { minLength: 1, maxLength: 20 }),
      (patterns, requests) => {
        const snapshot = compile(patterns)
        if (snapshot === undefined) return
        const lines = mostSpecificFirst(snapshot.routes)
        for (const { method, host, path } of requests) {
          const first = lines.find((line) => fits(line, method, host, path))
          const matched = snapshot.match(method, host, path)
          const got = matched !== undefined && 'index' in matched ? matched : undefined
          if (got !== first?.route)
            throw new Error(`${method} ${host}${path}: ${got?.label} is not ${first?.route.label}`)
          if (got !== undefined) compared++
        }
      },
    ),
    { numRuns: 500 },
  )
  t.ok(compared > 100, 'enough requests fitted a route')
})
