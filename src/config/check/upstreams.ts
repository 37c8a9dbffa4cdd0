import { asList, type Draft, type Path, type Say } from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'

/** Checks the upstreams of one service for duplicates, even with another weight. */
export function checkUpstreams(service: Draft<Config['services'][string]>, path: Path, error: Say): void {
  const seen = new Set<string>()
  for (const [i, entry] of asList(service.upstreams).entries()) {
    const url = typeof entry === 'object' ? entry.url : entry
    if (url === undefined) continue
    if (seen.has(url)) error([...path, 'upstreams', i], `${url} is listed twice; remove one`)
    seen.add(url)
  }
}
