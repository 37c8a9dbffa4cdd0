import type { IssuerReading } from '../../credentials/tokens.js'
import type { Families } from './metric-definitions.js'

/** Updates the metrics of the tokens and the keys of each issuer. */
export function showTokens(families: Families, readings: Iterable<IssuerReading>): void {
  families.jwksKeys.clear()
  families.jwksAge.clear()
  for (const { issuer, tokens, unknownTiers, jwks } of readings) {
    if (issuer === 'none') {
      families.tokens.set(tokens.invalid, issuer, 'invalid')
      continue
    }
    for (const [result, count] of Object.entries(tokens)) families.tokens.set(count, issuer, result)
    families.unknownTiers.set(unknownTiers, issuer)
    if (jwks === undefined) continue
    for (const [result, count] of Object.entries(jwks.fetches))
      families.jwksFetches.set(count, issuer, result)
    families.jwksKeys.set(jwks.keys, issuer)
    if (jwks.ageMs !== undefined) families.jwksAge.set(jwks.ageMs / 1000, issuer)
  }
}
