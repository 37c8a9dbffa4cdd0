/**
 * Signature algorithms of tokens by their JWS names (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2). `none` is not
 * allowed.
 */
export const TOKEN_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
  'HS256',
  'HS384',
  'HS512',
] as const

export type TokenAlgorithm = (typeof TOKEN_ALGORITHMS)[number]

/** Default algorithms: those that present issuers sign with. */
const ASYMMETRIC: readonly TokenAlgorithm[] = ['RS256', 'ES256', 'EdDSA']
const SYMMETRIC: readonly TokenAlgorithm[] = ['HS256']

export function algorithmsOf(
  algorithms: readonly TokenAlgorithm[] | undefined,
  secret: boolean,
): readonly TokenAlgorithm[] {
  return algorithms ?? (secret ? SYMMETRIC : ASYMMETRIC)
}
