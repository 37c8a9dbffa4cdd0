import type { Config } from '../schema/schema.js'

/** Compiled settings of a route for cross-origin requests. */
export interface Cors {
  /** Returns true if a page of this origin may read the response. */
  readonly allows: (origin: string) => boolean
  /** True if the response is the same for every origin, and may be cached for all. */
  readonly any: boolean
  /** Allowed methods; undefined to allow the requested method. */
  readonly methods: string | undefined
  /** Allowed headers; undefined to allow the requested ones. */
  readonly headers: string | undefined
  readonly expose: string
  readonly credentials: boolean
  /** How long a preflight response may be cached, in seconds. */
  readonly maxAge: string
}

/** Response headers of the gateway that a page may want to read. */
const OWN = [
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'X-RateLimit-Limit',
  'X-RateLimit-Remaining',
  'X-RateLimit-Reset',
  'X-Request-Id',
]

/**
 * Compiles the settings.
 *
 * @param methods of the route
 */
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

/** Text that the `*` of an origin may match: names, and nothing that ends the host. */
const NAMES = /^[a-z0-9_.-]+$/
