import { getOrAdd } from '../common/maps.js'
import type { SourceOf } from '../config/snapshot/consumers.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { TokenIssuer } from '../config/snapshot/token-issuers.js'
import { type Claims, scopesAt, textAt } from './claims.js'
import type { FetchResult } from './jwks-fetch.js'
import { createJwtVerifier, type JwtOptions, type JwtVerifier, type Verdict } from './jwt.js'
import type { VerificationKey } from './keys.js'

type Source = SourceOf<'jwt'>

/** The caller that a token identifies. It stays the same object while the token is remembered. */
export interface TokenIdentity {
  readonly issuer: string
  readonly consumer: string
  /** Tier as the token has it; the snapshot knows whether it exists. */
  readonly tier: string | undefined
  readonly tenant: string | undefined
  readonly scopes: readonly string[]
  /** Unix seconds. */
  readonly expires: number
  /** Unix ms from which the token is refused: `expires` plus the leeway of its issuer. */
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

/** Counts of the tokens of one issuer, and the state of its keys. */
export interface IssuerReading {
  /** Issuer as configured; `none` stands for tokens that name no configured one. */
  readonly issuer: string
  readonly tokens: Readonly<Record<TokenResult, number>>
  /** Valid tokens whose tier is not in the configuration. */
  readonly unknownTiers: number
  /** State of the keys, if they are fetched. */
  readonly jwks: JwksReading | undefined
}

export interface JwksReading {
  readonly keys: number
  readonly ageMs: number | undefined
  readonly fetches: Readonly<Record<FetchResult, number>>
}

/** Verifies the tokens of callers with the issuers of the snapshot that a request has. */
export type Tokens = ReturnType<typeof createTokens>

export type TokensOptions = Pick<JwtOptions<TokenIdentity>, 'log' | 'now' | 'jwks' | 'shares'>

interface Counts {
  readonly tokens: Record<TokenResult, number>
  unknownTiers: number
}

function noCounts(): Counts {
  const tokens = { cached: 0, verified: 0, expired: 0, invalid: 0, insufficient_scope: 0, unavailable: 0 }
  return { tokens, unknownTiers: 0 }
}

export function createTokens(options: TokensOptions) {
  /** Verifiers by issuer. The settings of an issuer identify it, so that a reload forgets no token. */
  const bySource = new WeakMap<Source, JwtVerifier<TokenIdentity>>()
  const bySettings = new Map<string, JwtVerifier<TokenIdentity>>()
  /** Counts for the lifetime of the process, so that no counter ever goes back. */
  const counts = new Map<string, Counts>()
  const none = countsOf('none')

  function countsOf(issuer: string): Counts {
    return getOrAdd(counts, issuer, noCounts)
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
    /**
     * Verifies a token.
     *
     * @param address client that sent the token
     */
    verify(
      source: Source,
      token: string,
      address?: string,
    ): Verdict<TokenIdentity> | Promise<Verdict<TokenIdentity>> {
      const verdict = verifierOf(source).verify(token, address)
      return verdict instanceof Promise
        ? verdict.then((later) => count(later, 'verified'))
        : count(verdict, 'cached')
    },
    /** Counts a valid token whose tier is not in the configuration. */
    unknownTier(issuer: string): void {
      countsOf(issuer).unknownTiers++
    },
    /** Fetches the keys that the tokens of a snapshot need, before the first such token arrives. */
    prepare(snapshot: Snapshot): void {
      for (const source of sourcesOf(snapshot)) verifierOf(source)
    },
    /** Stops fetching keys for issuers that are missing from this snapshot, the current one from now on. */
    retain(snapshot: Snapshot): void {
      const inUse = new Set(sourcesOf(snapshot).map((source) => JSON.stringify(source)))
      for (const [settings, verifier] of bySettings) {
        if (inUse.has(settings)) continue
        bySettings.delete(settings)
        verifier.close()
      }
    },
    readings(): readonly IssuerReading[] {
      const jwks = new Map<string, JwksReading>()
      for (const verifier of bySettings.values()) {
        for (const [issuer, keys] of verifier.jwks)
          jwks.set(issuer, { ...keys.state(), fetches: keys.fetches })
      }
      // Without a configured issuer there is nothing to report.
      return [...(counts.size === 1 ? [] : counts)].map(([issuer, { tokens, unknownTiers }]) => ({
        issuer,
        tokens,
        unknownTiers,
        jwks: jwks.get(issuer),
      }))
    },
    close(): void {
      for (const verifier of bySettings.values()) verifier.close()
      bySettings.clear()
    },
  }
}

function sourcesOf({ consumers }: Snapshot): readonly Source[] {
  return consumers.filter((source) => source.kind === 'jwt')
}

/** Reads the identity from the claims that the settings of the issuer name. */
function readIdentity(
  claims: Claims,
  settings: TokenIssuer,
  signedWith: VerificationKey,
): TokenIdentity | string {
  const id = textAt(claims, settings.id)
  if (id === undefined) return `its ${settings.id.name} is not an id of 1 to 256 characters`
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
