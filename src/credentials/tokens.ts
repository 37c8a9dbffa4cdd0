import type { SourceOf } from '../config/snapshot/consumers.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { TokenIssuer } from '../config/snapshot/token-issuers.js'
import { type Claims, scopesAt, textAt } from './claims.js'
import type { FetchResult } from './jwks-fetch.js'
import { createJwtVerifier, type JwtOptions, type JwtVerifier, type Verdict } from './jwt.js'
import type { VerificationKey } from './keys.js'

type Source = SourceOf<'jwt'>

/** Who a token says is calling. The same object for as long as the token is remembered. */
export interface TokenIdentity {
  readonly issuer: string
  readonly consumer: string
  /** As the token has it: whether there is such a tier, the snapshot knows. */
  readonly tier: string | undefined
  readonly tenant: string | undefined
  readonly scopes: readonly string[]
  /** Unix seconds. */
  readonly expires: number
  /** Unix ms from which it is taken no longer: `expires` and the leeway of its issuer. */
  readonly until: number
  readonly signedWith: Pick<VerificationKey, 'gone'>
}

export const TOKEN_RESULTS = [
  'cached',
  'verified',
  'expired',
  'invalid',
  'insufficient_scope',
  'unavailable',
] as const
export type TokenResult = (typeof TOKEN_RESULTS)[number]

/** What has become of the tokens of an issuer, and of its keys. */
export interface IssuerReading {
  /** As configured; `none`: of tokens that name no configured one. */
  readonly issuer: string
  readonly tokens: Readonly<Record<TokenResult, number>>
  /** Good tokens whose tier the configuration does not have. */
  readonly unknownTiers: number
  /** Of keys that are fetched. */
  readonly jwks: JwksReading | undefined
}

export interface JwksReading {
  readonly keys: number
  readonly ageMs: number | undefined
  readonly fetches: Readonly<Record<FetchResult, number>>
}

/** Checks the tokens of callers, by the sources of whatever snapshot a request has. */
export interface Tokens {
  /** @param address whose token it is */
  verify(
    source: Source,
    token: string,
    address?: string,
  ): Verdict<TokenIdentity> | Promise<Verdict<TokenIdentity>>
  /** A good token has a tier that the configuration does not have. */
  unknownTier(issuer: string): void
  /** Fetches the keys that the tokens of a snapshot need, before the first of those comes. */
  prepare(snapshot: Snapshot): void
  /** Stops fetching the keys of sources that this snapshot, the one in force from now on, does not have. */
  retain(snapshot: Snapshot): void
  readings(): readonly IssuerReading[]
  close(): void
}

export type TokensOptions = Pick<JwtOptions<TokenIdentity>, 'log' | 'now' | 'jwks' | 'shares'>

interface Counts {
  readonly tokens: Record<TokenResult, number>
  unknownTiers: number
}

export function createTokens(options: TokensOptions): Tokens {
  /** Of the snapshots that requests have. What a source says is what it is known by, so that a reload forgets no token. */
  const bySource = new WeakMap<Source, JwtVerifier<TokenIdentity>>()
  const bySettings = new Map<string, JwtVerifier<TokenIdentity>>()
  /** For as long as the process runs, so that none of them ever goes back. */
  const counts = new Map<string, Counts>()
  const none = countsOf('none')

  function countsOf(issuer: string): Counts {
    let found = counts.get(issuer)
    if (found === undefined) {
      const tokens = { cached: 0, verified: 0, expired: 0, invalid: 0, insufficient_scope: 0, unavailable: 0 }
      found = { tokens, unknownTiers: 0 }
      counts.set(issuer, found)
    }
    return found
  }

  function verifierOf(source: Source): JwtVerifier<TokenIdentity> {
    let verifier = bySource.get(source)
    if (verifier !== undefined) return verifier
    const settings = JSON.stringify(source)
    verifier =
      bySettings.get(settings) ?? createJwtVerifier(source.issuers, { ...options, read: readIdentity })
    bySettings.set(settings, verifier)
    bySource.set(source, verifier)
    for (const { issuer } of source.issuers) countsOf(issuer)
    return verifier
  }

  function count(verdict: Verdict<TokenIdentity>, good: TokenResult): Verdict<TokenIdentity> {
    if ('value' in verdict) countsOf(verdict.value.issuer).tokens[good]++
    else (counts.get(verdict.issuer) ?? none).tokens[verdict.rejected]++
    return verdict
  }

  return {
    verify(source, token, address) {
      const verdict = verifierOf(source).verify(token, address)
      return verdict instanceof Promise
        ? verdict.then((later) => count(later, 'verified'))
        : count(verdict, 'cached')
    },
    unknownTier(issuer) {
      countsOf(issuer).unknownTiers++
    },
    prepare(snapshot) {
      for (const source of sourcesOf(snapshot)) verifierOf(source)
    },
    retain(snapshot) {
      const inUse = new Set(sourcesOf(snapshot).map((source) => JSON.stringify(source)))
      for (const [settings, verifier] of bySettings) {
        if (inUse.has(settings)) continue
        bySettings.delete(settings)
        verifier.close()
      }
    },
    readings() {
      const jwks = new Map<string, JwksReading>()
      for (const verifier of bySettings.values()) {
        for (const [issuer, keys] of verifier.jwks)
          jwks.set(issuer, { ...keys.state(), fetches: keys.fetches })
      }
      // Where there is no issuer, nobody wants to know what there would be to count.
      return [...(counts.size === 1 ? [] : counts)].map(([issuer, { tokens, unknownTiers }]) => ({
        issuer,
        tokens,
        unknownTiers,
        jwks: jwks.get(issuer),
      }))
    },
    close() {
      for (const verifier of bySettings.values()) verifier.close()
      bySettings.clear()
    },
  }
}

function sourcesOf({ consumers }: Snapshot): readonly Source[] {
  return consumers.filter((source) => source.kind === 'jwt')
}

/** What the settings of the issuer take from the claims. */
function readIdentity(
  claims: Claims,
  settings: TokenIssuer,
  signedWith: VerificationKey,
): TokenIdentity | string {
  const id = textAt(claims, settings.id)
  if (id === undefined) return `its ${settings.id.name} is no id of 1 to 256 characters`
  const consumer = settings.idPrefix + id
  if (consumer.length > 256) return `its ${settings.id.name} is too long with id_prefix`
  return {
    issuer: settings.issuer,
    consumer,
    tier: settings.tier && textAt(claims, settings.tier),
    tenant: settings.tenant && textAt(claims, settings.tenant),
    scopes: scopesAt(claims, settings.scopes),
    expires: claims.exp as number,
    until: (claims.exp as number) * 1000 + settings.leewayMs,
    signedWith,
  }
}
