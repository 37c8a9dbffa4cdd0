import type { Config } from '../schema/schema.js'
import { algorithmsOf, type TokenAlgorithm } from '../values/token-algorithms.js'

/** Compiled issuer of tokens (JWT), with the conditions that make its tokens valid. */
export interface TokenIssuer {
  /** Must equal the token's `iss`. */
  readonly issuer: string
  /** The token's `aud` must contain one of them. Empty: `aud` is not checked. */
  readonly audiences: readonly string[]
  /** JWS names of the algorithms that may sign (RFC 7518 §3.1, RFC 8037, RFC 9864). */
  readonly algorithms: readonly TokenAlgorithm[]
  readonly keys: TokenKeys
  /** Tolerated clock difference, in ms. */
  readonly leewayMs: number
  /** `typ` must be one of them, in lower case. Empty: `typ` is not checked. */
  readonly types: readonly string[]
  readonly requiredClaims: readonly RequiredClaim[]
  readonly requiredScopes: readonly string[]
  readonly id: ClaimPath
  /** Prefix of the consumer's id. */
  readonly idPrefix: string
  readonly tier: ClaimPath | undefined
  readonly tenant: ClaimPath | undefined
  readonly scopes: ClaimPath
}

export type TokenKeys =
  | { readonly kind: 'jwks'; readonly url: string; readonly refreshMs: number }
  /** Public keys in PEM. */
  | { readonly kind: 'public'; readonly pems: readonly string[] }
  | { readonly kind: 'secret'; readonly secret: string }

/** Location of a claim: under this exact name, otherwise along its steps. */
export interface ClaimPath {
  readonly name: string
  readonly steps: readonly string[]
}

export interface RequiredClaim {
  readonly path: ClaimPath
  /** Accepted values as text; `*` accepts any value. */
  readonly values: readonly string[]
}

export type IssuerSettings = Extract<
  Extract<Config['consumers'][number], { jwt: unknown }>['jwt'],
  { issuers: unknown }
>['issuers'][number]

export function compileTokenIssuer(settings: IssuerSettings): TokenIssuer {
  const { secret, tier, tenant } = settings
  return {
    issuer: settings.issuer,
    audiences: settings.audience ?? [],
    algorithms: algorithmsOf(settings.algorithms, secret !== undefined),
    keys: keysOf(settings),
    leewayMs: settings.leeway,
    types: (settings.type ?? []).map(mediaType),
    requiredClaims: Object.entries(settings.required_claims ?? {}).map(([name, values]) => ({
      path: claimPath(name),
      values,
    })),
    requiredScopes: settings.required_scopes ?? [],
    id: claimPath(settings.id),
    idPrefix: settings.id_prefix ?? '',
    tier: tier === undefined ? undefined : claimPath(tier),
    tenant: tenant === undefined ? undefined : claimPath(tenant),
    scopes: claimPath(settings.scopes),
  }
}

function keysOf({ jwks_url: url, public_key: pems, secret, refresh }: IssuerSettings): TokenKeys {
  if (secret !== undefined) return { kind: 'secret', secret }
  if (pems !== undefined) return { kind: 'public', pems: pems.map(({ text }) => text) }
  return { kind: 'jwks', url: url!, refreshMs: refresh }
}

/**
 * Parses the path of a claim.
 *
 * @param path `org.id`: the member `id` of the claim `org`
 */
export function claimPath(path: string): ClaimPath {
  return { name: path, steps: path.split('.') }
}

/** Normalises `typ`, which omits `application/` for a media type without another slash (RFC 7515 §4.1.9). */
export function mediaType(type: string): string {
  const lower = type.toLowerCase()
  return lower.startsWith('application/') ? lower.slice('application/'.length) : lower
}
