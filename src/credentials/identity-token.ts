import { createPrivateKey, sign } from 'node:crypto'
import type { IdentityToken } from '../config/snapshot/snapshot.js'

/** What a token says of a caller. */
export interface TokenSubject {
  /** Undefined: known by its address only. */
  readonly consumer: string | undefined
  readonly tier: string
  readonly tenant: string | undefined
  readonly identifiedBy: string
}

/** @param now Unix ms */
export type IdentitySigner = (subject: TokenSubject, now: number) => string

interface Kept {
  readonly token: string
  /** Unix ms until which it is given out. */
  readonly until: number
}

/** Of one service. A token has some 400 bytes, one by RSA 600. */
const MAX_KEPT = 20_000

/**
 * Signs tokens (JWT, RFC 7519) that tell the upstreams of one service who is calling. One is made for a caller and given
 * out for half its life, so that signing is no cost of each request; whatever arrives holds for half its life more.
 *
 * @param maxKept how many tokens are kept at most; those not asked for lately go first
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
    // RFC 7518 §3.4 wants the two numbers of an ECDSA signature as they are, not in DER.
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

/** Two subjects never have the same: neither a tier nor the way of identification holds a blank, and the tenant says how long it is. */
function nameOf({ consumer, tier, tenant, identifiedBy }: TokenSubject): string {
  return `${tier} ${identifiedBy} ${tenant === undefined ? -1 : tenant.length} ${tenant ?? ''}${consumer ?? ''}`
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
