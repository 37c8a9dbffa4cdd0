import type { Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { scopeChallenge } from '../identify/jwt.js'

/** Refuses a credential that lacks any of the scopes that the route requires. Runs once the caller is known. */
export function authorize(x: Exchange): Refusal | undefined {
  const needed = x.route!.auth?.scopes
  if (needed === undefined || needed.length === 0) return undefined
  const { scopes = NONE } = x
  if (needed.every((scope) => scopes.includes(scope))) return undefined
  return {
    code: 'insufficient_scope',
    detail: `This route requires a credential with the scopes ${needed.join(' ')}.`,
    // For tokens only: other credentials have no scheme in which to say it.
    ...(x.identifiedBy === 'jwt' ? { headers: ['WWW-Authenticate', scopeChallenge(needed)] } : {}),
    cause:
      scopes.length === 0
        ? 'the credential has no scopes'
        : `the credential has the scopes ${scopes.join(' ')}`,
  }
}

const NONE: readonly string[] = []
