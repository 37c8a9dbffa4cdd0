import { asList, type DraftConfig, type Say } from '../schema/partial-config.js'
import { compileCdn, headersOfCdn } from '../snapshot/cdn.js'
import { headersOf } from '../values/credential-kinds.js'

/** Checks the edge rules beyond the schema: no reader of a header may remove it before another reader. */
export function checkEdge({ edge, consumers }: DraftConfig, error: Say): void {
  const settings = edge?.cdn
  if (settings === undefined) return
  const named = headersOfCdn(compileCdn(settings as Parameters<typeof compileCdn>[0]))
  for (const [i, name] of named.entries()) {
    if (named.indexOf(name) === i) continue
    error(['edge', 'cdn'], `"${name}" is to tell two things; name a header for each`)
  }
  const readByCdn = new Set(named)
  for (const [i, source] of asList(consumers).entries()) {
    if (source === undefined) continue
    for (const [header, key] of headersOf(source)) {
      if (!readByCdn.has(header)) continue
      const wrong = `"${header}" is what edge.cdn reads, and is taken off what comes from anybody but trusted_proxies`
      error(
        ['consumers', i, ...Object.keys(source), ...(key === undefined ? [] : [key])],
        `${wrong}; take another, or ip: {} to know callers by address`,
      )
    }
  }
}
