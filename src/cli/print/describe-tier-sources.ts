import type { Config } from '../../config/schema/schema.js'

type Source = Config['tier_sources'][number]

export function sourceName(source: Source): string {
  return 'postgres' in source ? (source.postgres.name ?? 'postgres') : (source.http.name ?? 'http')
}

/**
 * Describes the order in which a tier is looked for, if there are external sources. Shows hosts only: addresses hold
 * secrets.
 */
export function describeTierSources({ tier_sources: sources }: Config, defaultTier: string): string {
  const asked = sources.map((source) => {
    const kind = 'postgres' in source ? 'PostgreSQL' : 'HTTP'
    const { host } = new URL('postgres' in source ? source.postgres.url : source.http.url)
    return `${sourceName(source)} (${kind}${host === '' ? '' : ` at ${host}`})`
  })
  return ['by assignment', 'by credential', ...asked, defaultTier].join(', then ')
}
