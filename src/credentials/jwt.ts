import { compactVerify, errors } from 'jose'
import { mediaType, type TokenIssuer } from '../config/snapshot/token-issuers.js'
import type { TokenAlgorithm } from '../config/values/token-algorithms.js'
import { createShares, give, type Shares, take } from '../shares.js'
import { type Claims, checkClaims, scopesAt } from './claims.js'
import { createJwks, type Jwks, type JwksLog, type JwksOptions } from './jwks.js'
import {
  type FoundKeys,
  type KeySource,
  publicKeys,
  sharedSecret,
  shown,
  type VerificationKey,
} from './keys.js'
import { readToken, type UnprovenToken } from './token.js'
import { createVerifiedTokens } from './verified.js'

/** Longest time that a valid token is remembered without another check, in ms. */
const LONGEST_MEMORY = 600_000
/**
 * Most tokens that wait for keys or a signature check at the same time. Past it, or past the share of one client, a
 * request is asked to retry.
 */
const MAX_CHECKING = 1024

export interface Verified<T> {
  readonly value: T
}

/** Says why a token is rejected. The client learns only the kind. */
export interface Rejected {
  readonly rejected: 'invalid' | 'expired' | 'insufficient_scope' | 'unavailable'
  /** The configured issuer that the token names, or `none`. */
  readonly issuer: string
  /** Reason for the log. */
  readonly why: string
  /** Only with `unavailable`: ms until a retry makes sense. */
  readonly retryMs?: number
  /** Only with `insufficient_scope`: the scopes that the route needs. */
  readonly scopes?: readonly string[]
}

export type Verdict<T> = Verified<T> | Rejected

export interface JwtOptions<T extends object> {
  /**
   * Reads what the caller needs from the claims. The result is remembered instead of the claims while the token is
   * valid.
   *
   * @param key key that the token was signed with
   * @returns a text that says why the claims are unusable, for the log
   */
  readonly read: (claims: Claims, issuer: TokenIssuer, key: VerificationKey) => T | string
  readonly log: JwksLog
  /** Returns the current time in Unix ms. */
  readonly now?: () => number
  /** If left out, the verifier has shares of its own. */
  readonly shares?: Pick<Shares, 'open' | 'callerOf'>
  readonly jwks?: Pick<JwksOptions, 'after' | 'fetcher' | 'random'>
}

export interface JwtVerifier<T> {
  /**
   * Verifies a token. Returns at once when the token is remembered as valid; a Promise while keys are fetched or a
   * signature is checked.
   *
   * @param address client that sent the token: each address has a share of the checks; if left out, there is no share
   */
  verify(token: string, address?: string): Verdict<T> | Promise<Verdict<T>>
  /** Key sets of the issuers whose keys are fetched. */
  readonly jwks: ReadonlyMap<string, Jwks>
  close(): void
}

interface Known {
  readonly settings: TokenIssuer
  readonly keys: KeySource
}

/**
 * Creates a verifier for the tokens (JWT) of the issuers: RFC 7519, RFC 8725, RFC 9068 §4. Algorithms and keys come
 * from the configuration; the header of a token only chooses among them. Cheap checks come before the signature.
 */
export function createJwtVerifier<T extends object>(
  issuers: readonly TokenIssuer[],
  options: JwtOptions<T>,
): JwtVerifier<T> {
  const { read, log, now = Date.now, shares = createShares() } = options
  const share = shares.open('verifications', MAX_CHECKING)
  const jwks = new Map<string, Jwks>()
  const known = new Map<string, Known>()
  for (const settings of issuers) known.set(settings.issuer, { settings, keys: keysOf(settings) })
  const verified = createVerifiedTokens<Verified<T>>()
  /** Checks in progress: a token that arrives many times at once is checked once. */
  const checking = new Map<string, Promise<Verdict<T>>>()

  function keysOf({ issuer, keys }: TokenIssuer): KeySource {
    if (keys.kind === 'public') return publicKeys(keys.pems)
    if (keys.kind === 'secret') return sharedSecret(keys.secret)
    const set = createJwks({ ...options.jwks, url: keys.url, refreshMs: keys.refreshMs, log, now })
    jwks.set(issuer, set)
    return set
  }

  function verify(token: string, address?: string): Verdict<T> | Promise<Verdict<T>> {
    const entry = verified.get(token, now())
    if (entry !== undefined) return entry.value
    const same = checking.get(token)
    if (same !== undefined) return same
    const unproven = readToken(token)
    if (typeof unproven === 'string') return reject('none', unproven)
    const { iss } = unproven.claims
    const issuer = typeof iss === 'string' ? known.get(iss) : undefined
    if (issuer === undefined) return reject('none', `its issuer ${shown(iss)} is not configured`)
    const problem = problemOf(unproven, issuer.settings)
    if (problem !== undefined) return problem
    const found = issuer.keys.find(...asked(unproven))
    if (!(found instanceof Promise) && !('length' in found)) return withoutKey(found, issuer.settings)
    const verdict = check(token, unproven, issuer.settings, found, address).finally(() =>
      checking.delete(token),
    )
    checking.set(token, verdict)
    return verdict
  }

  async function check(
    token: string,
    unproven: UnprovenToken,
    issuer: TokenIssuer,
    finding: FoundKeys | Promise<FoundKeys>,
    address: string | undefined,
  ): Promise<Verdict<T>> {
    const caller = address === undefined ? undefined : shares.callerOf(address)
    if (take(share, caller) !== undefined) return busy(issuer)
    let key: VerificationKey | undefined
    try {
      const found = await finding
      if (!('length' in found)) return withoutKey(found, issuer)
      key = await signer(token, unproven, found)
    } finally {
      give(share, caller)
    }
    if (key === undefined) return reject(issuer.issuer, 'its signature is wrong')
    return judge(token, unproven.claims, issuer, key)
  }

  /** Checks the claims of a token with a valid signature. */
  function judge(token: string, claims: Claims, issuer: TokenIssuer, key: VerificationKey): Verdict<T> {
    const scopes = scopesAt(claims, issuer.scopes)
    const missing = issuer.requiredScopes.filter((scope) => !scopes.includes(scope))
    if (missing.length > 0) {
      const why = `it does not have the scope ${missing.join(' ')}`
      return { rejected: 'insufficient_scope', issuer: issuer.issuer, why, scopes: issuer.requiredScopes }
    }
    const value = read(claims, issuer, key)
    if (typeof value === 'string') return reject(issuer.issuer, value)
    const verdict = { value }
    const time = now()
    const until = Math.min((claims.exp as number) * 1000 + issuer.leewayMs, time + LONGEST_MEMORY)
    verified.set(token, { value: verdict, until, key })
    return verdict
  }

  function problemOf({ header, claims }: UnprovenToken, issuer: TokenIssuer): Rejected | undefined {
    const { alg, typ } = header
    if (!(issuer.algorithms as readonly unknown[]).includes(alg))
      return reject(issuer.issuer, `its algorithm ${shown(alg)} is not among ${issuer.algorithms.join(', ')}`)
    if (issuer.types.length > 0 && !issuer.types.includes(typeof typ === 'string' ? mediaType(typ) : ''))
      return reject(issuer.issuer, `its typ ${shown(typ)} is not ${issuer.types.join(' or ')}`)
    const problem = checkClaims(claims, issuer, now())
    if (problem === undefined) return undefined
    return { rejected: problem.expired ? 'expired' : 'invalid', issuer: issuer.issuer, why: problem.why }
  }

  return {
    verify,
    jwks,
    close() {
      for (const { keys } of known.values()) keys.close()
    },
  }
}

function asked({ header }: UnprovenToken): [TokenAlgorithm, string | undefined] {
  return [header.alg as TokenAlgorithm, header.kid as string | undefined]
}

/** Finds the key that the token was signed with. */
async function signer(
  token: string,
  { header }: UnprovenToken,
  keys: readonly VerificationKey[],
): Promise<VerificationKey | undefined> {
  for (const key of keys) {
    try {
      await compactVerify(token, key.key, { algorithms: [header.alg as string] })
      return key
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error
    }
  }
  return undefined
}

function reject(issuer: string, why: string): Rejected {
  return { rejected: 'invalid', issuer, why }
}

function withoutKey(found: Exclude<FoundKeys, readonly unknown[]>, { issuer }: TokenIssuer): Rejected {
  const { unavailable, why, retryMs } = found
  return unavailable ? { rejected: 'unavailable', issuer, why, retryMs } : reject(issuer, why)
}

function busy({ issuer }: TokenIssuer): Rejected {
  const why = `too many tokens are being checked, ${MAX_CHECKING} or the share of one caller`
  return { rejected: 'unavailable', issuer, why, retryMs: 1000 }
}
