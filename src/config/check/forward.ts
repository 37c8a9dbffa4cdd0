import {
  type Draft,
  type DraftConfig,
  named,
  type Path,
  present,
  type Report,
  reportTwice,
} from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import { DEFAULT_HEADERS, PARTS } from '../snapshot/forward.js'
import { TOLD_HEADERS } from '../snapshot/identity.js'
import { suggest } from '../values/nearest-name.js'
import { isOfTransport, OVERRIDES } from './shaping.js'
import { checkClientTls } from './upstream-tls.js'

type OfConsumers = Draft<Extract<Config['consumers'][number], { forward: unknown }>['forward']>
type OfRoute = Draft<NonNullable<NonNullable<Config['routes'][number]['auth']>['forward']>>

/** Checks the services that decide on requests, beyond the schema. */
export function checkForward({ consumers, routes }: DraftConfig, error: Report, warning: Report): void {
  const urls: string[] = []
  for (const [i, source] of present(consumers)) {
    if (!('forward' in source) || source.forward === undefined) continue
    if (source.forward.url !== undefined) urls.push(new URL(source.forward.url).href)
    checkSettings(source.forward, ['consumers', i, 'forward'], error, warning)
  }
  for (const [i, { auth }] of present(routes)) {
    if (auth?.forward === undefined) continue
    const path = ['routes', i, 'auth', 'forward']
    checkSettings(auth.forward, path, error, warning)
    const asked = auth.any_of === undefined || named(auth.any_of).includes('forward')
    if (!asked || urls.length === 0 || auth.forward.url === undefined) continue
    const { href } = new URL(auth.forward.url)
    if (urls.every((url) => url === href)) {
      const [other] = Object.keys(auth.forward).filter((key) => key !== 'url')
      if (other !== undefined) error([...path, other], 'is set in consumers, for the same url; remove it')
    } else {
      const wrong = 'two services would decide: consumers has a forward with another url'
      error([...path, 'url'], `${wrong}; take that url, or leave forward out of any_of`)
    }
  }
}

function checkSettings(settings: OfConsumers | OfRoute, path: Path, error: Report, warning: Report): void {
  const { url, headers, upstream_headers: set, cache, tls } = settings
  const own = (['id', 'tier', 'tenant'] as const).map((key) => [[key], settings[key]] as const)
  const chosen = present(set).map(([k, name]) => [['upstream_headers', k], name] as const)
  for (const [place, name] of [...own, ...chosen]) {
    if (name === undefined) continue
    const at = [...path, ...place]
    if (isOfTransport(name) || OVERRIDES.has(name) || name === 'traceparent' || name === 'tracestate')
      error(at, `"${name}" belongs to the transport or to proxies; remove it`)
    else if ((TOLD_HEADERS as readonly string[]).includes(name))
      error(at, `"${name}" is set only by the gateway (identity of a service); remove it`)
  }
  for (const key of ['tier', 'tenant'] as const) {
    if (Object.hasOwn(settings, key) && !Object.hasOwn(settings, 'id'))
      error([...path, key], 'has no effect without id; give the header with the id, too')
  }
  for (const [k, name] of present(headers)) {
    if (isOfTransport(name) || OVERRIDES.has(name))
      error([...path, 'headers', k], `"${name}" is written by the gateway; remove it`)
  }
  for (const key of ['headers', 'upstream_headers'] as const)
    reportTwice(settings[key], [...path, key], error)
  const sent = headers === undefined ? DEFAULT_HEADERS : named(headers)
  const known: string[] = [...PARTS, ...sent]
  for (const [k, name] of present(cache?.by)) {
    if (!known.includes(name))
      error(
        [...path, 'cache', 'by', k],
        `the service does not get "${name}"; ${suggest(name, known, 'parts')}`,
      )
  }
  if (tls === undefined) return
  if (url?.startsWith('http://')) error([...path, 'tls'], 'the service does not use TLS; write https://')
  checkClientTls(tls, [...path, 'tls'], error, warning)
}
