import { asList, type Draft, type Path, type Say } from './draft.js'
import { formatDuration } from './quantities.js'
import type { Config } from './schema.js'

/** The upstreams of one service: none twice, and checks that can be through before the next one. */
export function checkUpstreams(service: Draft<Config['services'][string]>, path: Path, error: Say): void {
  const seen = new Set<string>()
  for (const [i, entry] of asList(service.upstreams).entries()) {
    const url = typeof entry === 'object' ? entry.url : entry
    if (url === undefined) continue
    if (seen.has(url)) error([...path, 'upstreams', i], `${url} is listed twice; remove one`)
    seen.add(url)
  }
  const { interval, timeout } = service.health ?? {}
  if (interval !== undefined && timeout !== undefined && timeout > interval) {
    const fix = `write ${formatDuration(interval)} or less, or a longer interval`
    error([...path, 'health', 'timeout'], `is longer than the interval between two checks; ${fix}`)
  }
}
