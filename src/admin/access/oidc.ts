import { ROLES } from '../../config/schema/admin.js'
import type { Config } from '../../config/schema/schema.js'
import { claimPath, type TokenIssuer } from '../../config/snapshot/token-issuers.js'
import { algorithmsOf } from '../../config/values/token-algorithms.js'
import { type Claims, claimAt, textAt } from '../../credentials/claims.js'
import { createJwtVerifier, type JwtVerifier } from '../../credentials/jwt.js'
import type { Role } from './roles.js'

export type OidcSettings = NonNullable<Config['admin']['oidc']>

/** The person that a valid token identifies. */
export interface Person {
  readonly who: string
  /** Undefined: no claim of the token has a role in the configuration. */
  readonly role: Role | undefined
}

export interface OidcOptions {
  readonly log: Parameters<typeof createJwtVerifier>[1]['log']
  /** Returns the current time in Unix ms. */
  readonly now: () => number
}

/**
 * Creates a verifier for the tokens of a company's identity provider (OpenID Connect Core §2, RFC 9068). The caller
 * closes it.
 */
export function openOidc(settings: OidcSettings, { log, now }: OidcOptions): JwtVerifier<Person> {
  const name = claimPath(settings.name)
  const role = claimPath(settings.role)
  const roles = new Map(Object.entries(settings.roles))
  const issuer: TokenIssuer = {
    issuer: settings.issuer,
    audiences: [settings.audience],
    algorithms: algorithmsOf(undefined, false),
    keys: { kind: 'jwks', url: settings.jwks_url, refreshMs: 600_000 },
    leewayMs: 60_000,
    types: [],
    requiredClaims: [],
    requiredScopes: [],
    id: name,
    idPrefix: '',
    tier: undefined,
    tenant: undefined,
    scopes: claimPath('scope'),
  }
  function read(claims: Claims): Person | string {
    const who = textAt(claims, name)
    if (who === undefined) return `its ${settings.name} is no name`
    const found = valuesOf(claimAt(claims, role)).map((value) => ROLES.indexOf(roles.get(value) as Role))
    return { who: `oidc:${who}`, role: ROLES[Math.max(-1, ...found)] }
  }
  return createJwtVerifier([issuer], { read, log, now })
}

/** Reads the values of a claim: a list of strings, or one string with values separated by spaces. */
function valuesOf(claim: unknown): readonly string[] {
  if (typeof claim === 'string') return [claim, ...claim.split(' ')]
  return Array.isArray(claim) ? claim.filter((value) => typeof value === 'string') : []
}
