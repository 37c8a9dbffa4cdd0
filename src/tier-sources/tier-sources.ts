import { isDeepStrictEqual } from 'node:util'
import { mayTellTenants } from '../config/check/tier-sources.js'
import type { Config } from '../config/schema/schema.js'
import type { Log } from '../log-throttle.js'
import { createShares, type Shares } from '../shares.js'
import { openHttp } from './http.js'
import { openPostgres } from './postgres.js'
import { createTierSource } from './source.js'
import { createCounts, type SourceCounts, type SourceState, type TierSource } from './tier-source.js'

type Settings = Config['tier_sources']

/** Sources of tiers, in the order of the configuration. */
export type OpenTierSources = ReturnType<typeof openTierSources>

export interface TierSourcesOptions {
  readonly settings: Settings
  /** True to listen for change messages. A process that only looks tiers up now and then does not. */
  readonly listen?: boolean
  readonly log: Log
  /** Shares of sources among callers. Default: shares of its own. */
  readonly shares?: Pick<Shares, 'open' | 'callerOf'>
}

interface Opened {
  readonly settings: Settings[number]
  readonly source: TierSource
}

export function openTierSources({
  settings,
  listen = true,
  log,
  shares = createShares(),
}: TierSourcesOptions) {
  let opened: readonly Opened[] = []
  let sources: readonly TierSource[] = []
  /** Counters never go back, whatever happens to the source. */
  const counts = new Map<string, SourceCounts>()

  function open(one: Settings[number]): TierSource {
    const [name, of] =
      'postgres' in one
        ? [one.postgres.name ?? 'postgres', one.postgres]
        : [one.http.name ?? 'http', one.http]
    const known = counts.get(name) ?? createCounts()
    counts.set(name, known)
    const directory =
      'postgres' in one
        ? openPostgres({
            name,
            settings: one.postgres,
            listen,
            log,
            onChange: (consumer) => changed(source, consumer),
            onBroken: () => void known.protocolErrors++,
          })
        : openHttp(one.http)
    const source = createTierSource({
      ...of,
      name,
      tellsTenants: mayTellTenants(one),
      directory,
      counts: known,
      shares,
      log,
    })
    return source
  }

  function use(next: Settings): void {
    const before = [...opened]
    opened = next.map((one) => {
      const at = before.findIndex((other) => isDeepStrictEqual(askedOf(other.settings), askedOf(one)))
      const same = before[at]
      if (same === undefined) return { settings: one, source: open(one) }
      before.splice(at, 1)
      same.source.adjust('postgres' in one ? one.postgres : one.http)
      return { settings: one, source: same.source }
    })
    sources = opened.map(({ source }) => source)
    for (const { source } of before) void source.close()
  }

  use(settings)

  return {
    sources: (): readonly TierSource[] => sources,
    /** Applies another configuration. Sources that are unchanged keep everything they know. */
    use,
    describe: (): readonly SourceState[] => sources.map((source) => source.describe()),
    async close(): Promise<void> {
      await Promise.all(sources.map((source) => source.close()))
    },
  }
}

/** Returns the settings that identify a source. How long its answers last is not part of them. */
function askedOf(settings: Settings[number]): object {
  const { ttl, stale, negative_ttl, wait, ...rest } =
    'postgres' in settings ? settings.postgres : settings.http
  return rest
}

function changed(source: TierSource, consumer: string | undefined): void {
  if (consumer === undefined) source.allChanged()
  else source.changed(consumer)
}
