import type { ClaimPath, RequiredClaim, TokenIssuer } from '../config/snapshot/token-issuers.js'

export type Claims = Readonly<Record<string, unknown>>

/**
 * Returns the claim with exactly this name, else the claim at the end of the steps; undefined when there is neither.
 */
export function claimAt(claims: Claims, { name, steps }: ClaimPath): unknown {
  if (Object.hasOwn(claims, name)) return claims[name]
  if (steps.length === 1) return undefined
  let value: unknown = claims
  for (const step of steps) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Claims)[step]
  }
  return value
}

/**
 * Reads a claim as an id or a name: a string of 1 to 256 characters, or a whole number. Returns undefined for anything
 * else. Refuses half a surrogate pair: it has no UTF-8 form, so two ids could become one.
 */
export function textAt(claims: Claims, path: ClaimPath): string | undefined {
  const value = claimAt(claims, path)
  if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : undefined
  if (typeof value !== 'string' || value === '' || value.length > 256) return undefined
  return value.isWellFormed() ? value : undefined
}

/** Reads scopes from a list of strings, or from one string separated by spaces (RFC 8693 §4.2). */
export function scopesAt(claims: Claims, path: ClaimPath): readonly string[] {
  const value = claimAt(claims, path)
  if (typeof value === 'string') return value.split(' ').filter((scope) => scope !== '')
  return Array.isArray(value) ? value.filter((scope) => typeof scope === 'string') : []
}

/** Says why a token is not valid now, and whether the reason is that it has expired. */
export interface ClaimsProblem {
  readonly expired: boolean
  readonly why: string
}

/** Checks the claims against RFC 7519 §4.1 and the settings of the issuer. `now` is in Unix ms. */
export function checkClaims(claims: Claims, issuer: TokenIssuer, now: number): ClaimsProblem | undefined {
  const { exp, nbf, iat, aud } = claims
  if (!isTime(exp)) return bad('it has no exp')
  const past = now - exp * 1000
  if (past >= issuer.leewayMs) return { expired: true, why: `it expired ${seconds(past)} ago` }
  for (const [name, time] of [
    ['nbf', nbf],
    ['iat', iat],
  ] as const) {
    if (time === undefined) continue
    if (!isTime(time)) return bad(`its ${name} is not a time`)
    const early = time * 1000 - now
    if (early > issuer.leewayMs) return bad(`its ${name} is ${seconds(early)} from now`)
  }
  if (issuer.audiences.length > 0 && !isFor(aud, issuer.audiences))
    return bad(`it is not for ${issuer.audiences.join(' or ')}`)
  for (const required of issuer.requiredClaims) {
    if (!hasClaim(claims, required)) return bad(`its ${required.path.name} is not as required`)
  }
  return undefined
}

function bad(why: string): ClaimsProblem {
  return { expired: false, why }
}

const seconds = (ms: number) => `${Math.round(ms / 1000)} s`

/**
 * The last second of a Date (ECMA-262, 21.4.1.1). JSON can hold later ones, and some that become infinite, such as
 * 1e999.
 */
const LAST = 8.64e12

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value >= -LAST && value <= LAST
}

function isFor(aud: unknown, audiences: readonly string[]): boolean {
  if (typeof aud === 'string') return audiences.includes(aud)
  return Array.isArray(aud) && aud.some((one) => typeof one === 'string' && audiences.includes(one))
}

/** Returns true if the claim has one of the values. A list has it when one of its items does. */
function hasClaim(claims: Claims, { path, values }: RequiredClaim): boolean {
  const value = claimAt(claims, path)
  if (value === undefined || value === null) return false
  if (values.includes('*')) return true
  return (Array.isArray(value) ? value : [value]).some(
    (one) => ['string', 'number', 'boolean'].includes(typeof one) && values.includes(String(one)),
  )
}
