import { type DraftConfig, present, type Report } from '../schema/partial-config.js'
import { compileCdn, headersOfCdn } from '../snapshot/cdn.js'
import { headersOf } from '../values/credential-kinds.js'

/** Checks the edge rules beyond the schema: no reader of a header may remove it before another reader. */
export function checkEdge({ edge, consumers }: DraftConfig, error: Report): void {
  const settings = edge?.cdn
  if (settings === undefined) return
  const named = headersOfCdn(compileCdn(settings as Parameters<typeof compileCdn>[0]))
  for (const [i, name] of named.entries()) {
    if (named.indexOf(name) === i) continue
    error(['edge', 'cdn'], `"${name}" has two meanings; name a header for each`)
  }
  for (const [i, source] of present(consumers)) {
    for (const [header, key] of headersOf(source)) {
      if (!named.includes(header)) continue
      const wrong = `edge.cdn reads "${header}", and the gateway removes it unless trusted_proxies send it`
      const path = ['consumers', i, ...Object.keys(source), ...(key === undefined ? [] : [key])]
      error(path, `${wrong}; take another, or ip: {} to identify clients by address`)
    }
  }
}
