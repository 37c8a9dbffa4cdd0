/** What a caller is asked for, by the way of identification (RFC 9110 §11.6.1). API keys have no registered scheme. */
export const CHALLENGES = {
  /** To who has no token; RFC 6750 §3: then without an error. */
  jwt: 'Bearer realm="tidegate"',
  api_key: 'ApiKey realm="tidegate"',
  signature: 'Signature realm="tidegate"',
} as const

/** To who has a token that lacks some of these (RFC 6750 §3.1). */
export function scopeChallenge(scopes: readonly string[]): string {
  return `${CHALLENGES.jwt}, error="insufficient_scope", scope="${scopes.join(' ')}"`
}
