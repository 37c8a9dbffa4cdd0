import type { Config } from '../schema/schema.js'

/** What a route says of cross-origin requests, compiled. */
export interface Cors {
  /** Whether a page of this origin may read the answer. */
  readonly allows: (origin: string) => boolean
  /** The answer is the same for every origin, and may be cached for all. */
  readonly any: boolean
  /** Undefined: the method that is asked for. */
  readonly methods: string | undefined
  /** Undefined: the fields that are asked for. */
  readonly headers: string | undefined
  readonly expose: string
  readonly credentials: boolean
  /** Seconds. */
  readonly maxAge: string
}

/** What the gateway adds to a response that a page may want to know. */
const OWN = [
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'X-RateLimit-Limit',
  'X-RateLimit-Remaining',
  'X-RateLimit-Reset',
  'X-Request-Id',
]

/** @param methods of the route */
export function compileCors(
  cors: NonNullable<Config['routes'][number]['cors']>,
  methods: readonly string[] | undefined,
): Cors {
  const any = cors.origins.includes('*')
  const exact = new Set(cors.origins)
  const below = cors.origins.flatMap((origin) => {
    const [scheme, rest] = origin.split('://*')
    return rest === undefined ? [] : [{ scheme: `${scheme}://`, suffix: rest }]
  })
  const own = new Set(OWN.map((name) => name.toLowerCase()))
  const usual = methods?.includes('GET') && !methods.includes('HEAD') ? [...methods, 'HEAD'] : methods
  return {
    allows: (origin) =>
      any ||
      exact.has(origin) ||
      below.some(
        ({ scheme, suffix }) =>
          origin.startsWith(scheme) &&
          origin.endsWith(suffix) &&
          NAMES.test(origin.slice(scheme.length, -suffix.length)),
      ),
    any: any && !cors.credentials,
    methods: (cors.methods ?? usual)?.join(', '),
    headers: cors.headers?.join(', '),
    expose: [...OWN, ...(cors.expose ?? []).filter((name) => !own.has(name))].join(', '),
    credentials: cors.credentials,
    maxAge: String(Math.floor(cors.max_age / 1000)),
  }
}

/** What may stand for the `*` of an origin: names, and nothing that ends the host. */
const NAMES = /^[a-z0-9_.-]+$/
