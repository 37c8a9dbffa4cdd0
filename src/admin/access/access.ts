import { createHash, timingSafeEqual } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { Config } from '../../config/schema/schema.js'
import type { JwtVerifier, Verdict } from '../../credentials/jwt.js'
import { createFailedTokens } from './failed-tokens.js'
import { type OidcOptions, type OidcSettings, openOidc, type Person } from './oidc.js'
import type { Problem } from './problem.js'
import type { Role } from './roles.js'

/** A client of the admin API, and its role. */
export interface Grant {
  readonly who: string
  readonly role: Role
}

export interface Refusal {
  readonly problem: Problem
  /** Seconds (a whole number) until a retry may pass; only for refusals that end by themselves. */
  readonly retryAfter?: number
}

export type Access = ReturnType<typeof createAccess>

/** The part of the configuration that decides who may use the admin API. */
export type AccessSettings = Pick<Config['admin'], 'token' | 'tokens' | 'oidc'>

export interface AccessOptions {
  readonly settings: () => AccessSettings
  readonly log: OidcOptions['log']
  /** Returns the current time in Unix ms. */
  readonly now?: () => number
}

const LOOPBACK: Grant = { who: 'loopback', role: 'operator' }
const WANTED: Refusal = {
  problem: {
    code: 'unauthorized',
    detail: 'Send the token of admin.token or one of admin.tokens: Authorization: Bearer <token>.',
  },
}
const EXPIRED: Refusal = {
  problem: {
    code: 'unauthorized',
    detail: 'The token has expired; get another from your identity provider.',
  },
}
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/

export function createAccess({ settings, log, now = Date.now }: AccessOptions) {
  const failed = createFailedTokens(now)
  let tokens = compileTokens(settings())
  let oidc: { of: OidcSettings; verifier: JwtVerifier<Person> } | undefined

  /** Reads the settings on every request, so that a reload revokes a token at once. */
  function follow(): AccessSettings {
    const present = settings()
    if (tokens.of !== present) tokens = compileTokens(present)
    if (!isDeepStrictEqual(oidc?.of, present.oidc)) {
      oidc?.verifier.close()
      oidc = present.oidc && { of: present.oidc, verifier: openOidc(present.oidc, { log, now }) }
    }
    return present
  }

  const isOpen = () => {
    follow()
    return tokens.holders.length === 0 && oidc === undefined
  }

  function refuse(address: string, given: Buffer, why: string | undefined): Refusal {
    failed.add(address, given)
    if (why !== undefined) log.warn({ address, why }, 'the admin API refused a token')
    if (failed.waitFor(address) > 0)
      log.warn({ address }, 'too many wrong tokens for the admin API; the address has to wait a minute')
    return WANTED
  }

  function judge(verdict: Verdict<Person>, address: string, given: Buffer): Grant | Refusal {
    if ('value' in verdict) return grantOf(verdict.value)
    if (verdict.rejected === 'expired') return EXPIRED
    if (verdict.rejected !== 'unavailable') return refuse(address, given, verdict.why)
    log.warn({ address, why: verdict.why }, 'the admin API cannot check a token')
    const detail =
      'The gateway cannot fetch the keys of the identity provider; try again, or use a token of admin.tokens.'
    return { problem: { code: 'issuer_unavailable', detail }, retryAfter: seconds(verdict.retryMs ?? 1000) }
  }

  return {
    /** Returns true if requests need no token; then the server serves only this machine, with every permission. */
    isOpen,
    /** Finds the holder of the token in an Authorization header, by the configuration in force. */
    identify(authorization: string | undefined, address: string): Grant | Refusal | Promise<Grant | Refusal> {
      if (isOpen()) return LOOPBACK
      const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
      // No token: this is not a guess.
      if (token === undefined) return WANTED
      const waitMs = failed.waitFor(address)
      // The right token waits, too: a client that guesses must not learn which one is right.
      if (waitMs > 0) return wait(waitMs)
      const given = digest(token)
      const grant = holderOf(tokens.holders, given)
      if (grant !== undefined) return grant
      if (oidc === undefined || !JWT.test(token)) return refuse(address, given, undefined)
      const verdict = oidc.verifier.verify(token)
      return verdict instanceof Promise
        ? verdict.then((one) => judge(one, address, given))
        : judge(verdict, address, given)
    },
    close: () => oidc?.verifier.close(),
  }
}

interface Holder {
  readonly digest: Buffer
  readonly grant: Grant
}

function compileTokens(of: AccessSettings): { of: AccessSettings; holders: readonly Holder[] } {
  const holders: Holder[] = of.tokens.map(({ sha256, name, role }) => ({
    digest: Buffer.from(sha256, 'hex'),
    grant: { who: name, role },
  }))
  if (of.token !== undefined)
    holders.unshift({ digest: digest(of.token), grant: { who: 'token', role: 'operator' } })
  return { of, holders }
}

/**
 * Finds the holder of a token. Compares with every token, each to its end, so that the time taken does not tell which
 * one matches or how far two agree.
 */
function holderOf(holders: readonly Holder[], given: Buffer): Grant | undefined {
  let found: Grant | undefined
  for (const { digest: expected, grant } of holders) if (timingSafeEqual(expected, given)) found = grant
  return found
}

function grantOf({ who, role }: Person): Grant | Refusal {
  if (role !== undefined) return { who, role }
  const detail = `The token is valid, but none of its claims gives ${who} a role; add one to admin.oidc.roles.`
  return { problem: { code: 'forbidden', detail } }
}

function wait(ms: number): Refusal {
  const retryAfter = seconds(ms)
  const detail = `Too many wrong tokens came from this address; try again in ${retryAfter} s.`
  return { problem: { code: 'too_many_attempts', detail }, retryAfter }
}

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
