import { ROLES } from '../../config/schema/admin.js'
import type { Config } from '../../config/schema/schema.js'
import { claimPath, type TokenIssuer } from '../../config/snapshot/token-issuers.js'
import { algorithmsOf } from '../../config/values/token-algorithms.js'
import { type Claims, claimAt, textAt } from '../../credentials/claims.js'
import { createJwtVerifier, type JwtVerifier } from '../../credentials/jwt.js'
import type { Role } from './roles.js'

export type OidcSettings = NonNullable<Config['admin']['oidc']>

/** Whoever a good token is of. */
export interface Person {
  readonly who: string
  /** Undefined: none of what the token says of them has a role here. */
  readonly role: Role | undefined
}

export interface OidcOptions {
  readonly log: Parameters<typeof createJwtVerifier>[1]['log']
  /** Unix ms. */
  readonly now: () => number
}

/** Checks the tokens of a company's identity provider (OpenID Connect Core §2, RFC 9068). Close what is returned. */
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

/** A list of texts; a text, which may be several with spaces between them. */
function valuesOf(claim: unknown): readonly string[] {
  if (typeof claim === 'string') return [claim, ...claim.split(' ')]
  return Array.isArray(claim) ? claim.filter((value) => typeof value === 'string') : []
}
