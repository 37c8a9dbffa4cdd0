import { createPrivateKey, sign } from 'node:crypto'
import type { IdentityToken } from '../config/snapshot/identity.js'

/** The caller that an identity token describes. */
export interface TokenSubject {
  /** Undefined: the caller is known only by its address. */
  readonly consumer: string | undefined
  readonly tier: string
  readonly tenant: string | undefined
  readonly identifiedBy: string
}

/** @param now Unix ms */
export type IdentitySigner = (subject: TokenSubject, now: number) => string

interface Kept {
  readonly token: string
  /** Unix ms until which the token is handed out. */
  readonly until: number
}

/** Tokens kept for one service. A token takes about 400 bytes, or 600 if signed with RSA. */
const MAX_KEPT = 20_000

/**
 * Creates a signer of tokens (JWT, RFC 7519) that tell the upstreams of one service who is calling. The signer reuses a
 * token for half its lifetime, so that most requests cost no signature. A token that arrives is valid for at least
 * another half of its lifetime.
 *
 * @param maxKept most tokens that are kept; the least recently used go first
 */
export function createIdentitySigner(settings: IdentityToken, maxKept = MAX_KEPT): IdentitySigner {
  const { algorithm, kid, issuer, audience, ttl } = settings
  const key = createPrivateKey(settings.key)
  const head = encoded({ alg: algorithm, typ: 'JWT', kid })
  let fresh = new Map<string, Kept>()
  let older = new Map<string, Kept>()

  function make({ consumer, tier, tenant, identifiedBy }: TokenSubject, now: number): string {
    const iat = Math.floor(now / 1000)
    const claims = { iss: issuer, aud: audience, sub: consumer, iat, exp: iat + ttl }
    const text = `${head}.${encoded({ ...claims, tier, tenant, identified_by: identifiedBy })}`
    // RFC 7518 §3.4 wants the two numbers of an ECDSA signature side by side, not in DER.
    const signature = sign(algorithm === 'EdDSA' ? null : 'sha256', Buffer.from(text), {
      key,
      dsaEncoding: 'ieee-p1363',
    })
    return `${text}.${signature.toString('base64url')}`
  }

  return (subject, now) => {
    const name = nameOf(subject)
    let kept = fresh.get(name)
    if (kept !== undefined && kept.until > now) return kept.token
    if (kept === undefined) kept = older.get(name)
    if (kept === undefined || kept.until <= now) {
      kept = { token: make(subject, now), until: now + ttl * 500 }
    }
    if (fresh.size >= maxKept / 2) {
      older = fresh
      fresh = new Map()
    }
    fresh.set(name, kept)
    return kept.token
  }
}

/**
 * Returns a cache key that no two subjects share: a tier and a method of identification contain no space, and the
 * tenant comes with its length.
 */
function nameOf({ consumer, tier, tenant, identifiedBy }: TokenSubject): string {
  return `${tier} ${identifiedBy} ${tenant === undefined ? -1 : tenant.length} ${tenant ?? ''}${consumer ?? ''}`
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
