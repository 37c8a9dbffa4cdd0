import type { SourceOf } from '../../config/snapshot/consumers.js'
import type { Verdict } from '../../credentials/jwt.js'
import type { TokenIdentity, Tokens } from '../../credentials/tokens.js'
import type { Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { identityHeader } from '../exchange/headers.js'
import { challengeOf, type Identified, unauthorized } from './identify.js'

type Jwt = SourceOf<'jwt'>

const CHALLENGE = challengeOf('jwt')

/** Returns the challenge for a token that lacks some of these scopes (RFC 6750 §3.1). */
export function scopeChallenge(scopes: readonly string[]): string {
  return `${CHALLENGE}, error="insufficient_scope", scope="${scopes.join(' ')}"`
}

export function identifyByJwt(
  x: Exchange,
  source: Jwt,
  tokens: Pick<Tokens, 'verify' | 'unknownTier'>,
): Identified | Promise<Refusal | undefined> {
  const field = identityHeader(x.headers, source.header)
  if (field === undefined) return 'absent'
  const token = source.header === 'authorization' ? bearerToken(field) : field
  if (token === undefined)
    return unauthorized('The authorization header contains no bearer token.', CHALLENGE)
  const verdict = tokens.verify(source, token, x.clientIp)
  return verdict instanceof Promise
    ? verdict.then((later) => decide(x, source, later, tokens))
    : decide(x, source, verdict, tokens)
}

/** Returns the token after the scheme, whose name is case-insensitive (RFC 9110 §11.1). */
function bearerToken(field: string): string | undefined {
  if (field.startsWith('Bearer ')) return field.slice(7)
  return field.slice(0, 7).toLowerCase() === 'bearer ' ? field.slice(7) : undefined
}

function decide(
  x: Exchange,
  { header }: Jwt,
  verdict: Verdict<TokenIdentity>,
  tokens: Pick<Tokens, 'unknownTier'>,
): Refusal | undefined {
  if ('rejected' in verdict) return refusalOf(header, verdict)
  const { value } = verdict
  x.identifiedBy = 'jwt'
  x.consumer = value.consumer
  x.tenant = value.tenant
  x.scopes = value.scopes
  x.token = value
  if (value.tier === undefined) return undefined
  const tier = x.snapshot.tiers.indexOf(value.tier)
  if (tier >= 0) x.credentialTier = tier
  else tokens.unknownTier(value.issuer)
  return undefined
}

/** Makes the refusal. It tells the client what to do (RFC 6750 §3.1). The exact reason is only logged. */
function refusalOf(
  header: string,
  { rejected, why, scopes = [], retryMs = 0 }: Exclude<Verdict<TokenIdentity>, { value: unknown }>,
): Refusal {
  const cause = `token: ${why}`
  switch (rejected) {
    case 'unavailable': {
      const seconds = Math.max(1, Math.ceil(retryMs / 1000))
      return { code: 'identity_unavailable', headers: ['Retry-After', String(seconds)], cause }
    }
    case 'insufficient_scope':
      return {
        code: 'insufficient_scope',
        detail: `The token in ${header} lacks a required scope. Required here: ${scopes.join(' ')}.`,
        headers: ['WWW-Authenticate', scopeChallenge(scopes)],
        cause,
      }
    case 'expired':
      return {
        ...unauthorized(
          `The token in ${header} has expired; get a new one.`,
          `${CHALLENGE}, error="invalid_token", error_description="The token has expired"`,
        ),
        cause,
      }
    case 'invalid':
      return {
        ...unauthorized(`The token in ${header} is not valid.`, `${CHALLENGE}, error="invalid_token"`),
        cause,
      }
  }
}
