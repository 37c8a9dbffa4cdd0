/** Challenges by kind of credential (RFC 9110 §11.6.1). API keys have no registered scheme. */
export const CHALLENGES = {
  /** For a client without a token, and so without an error (RFC 6750 §3). */
  jwt: 'Bearer realm="tidegate"',
  api_key: 'ApiKey realm="tidegate"',
  signature: 'Signature realm="tidegate"',
} as const

/** Returns the challenge for a token that lacks some of these scopes (RFC 6750 §3.1). */
export function scopeChallenge(scopes: readonly string[]): string {
  return `${CHALLENGES.jwt}, error="insufficient_scope", scope="${scopes.join(' ')}"`
}
