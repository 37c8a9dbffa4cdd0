import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import type { Config } from '../schema/schema.js'

/** Compiled settings for what the upstreams of a service learn about the client. */
export interface Identity {
  /** True if upstreams get `X-Consumer-Id` and the like. */
  readonly headers: boolean
  readonly token: IdentityToken | undefined
  /** Lower-case names of the headers that the gateway writes. Any other source of them is removed. */
  readonly fields: ReadonlySet<string>
}

export interface IdentityToken {
  /** Private key, in PEM. */
  readonly key: string
  readonly algorithm: 'ES256' | 'EdDSA' | 'RS256'
  /** Key id: the thumbprint of the public half (RFC 7638). */
  readonly kid: string
  /** Lower-case name of the header with the token. */
  readonly header: string
  readonly issuer: string
  readonly audience: string
  /** Lifetime in whole seconds. */
  readonly ttl: number
}

/** Public key as a JWK set has it (RFC 7517). */
export type PublicKey = Readonly<Record<string, string>>

/** Headers that upstreams trust, because only the gateway writes them. */
export const TOLD_HEADERS = ['x-consumer-id', 'x-consumer-tier', 'x-consumer-tenant'] as const

type ServiceConfig = Config['services'][string]

export function compileIdentity(name: string, { identity }: ServiceConfig): Identity | undefined {
  if (identity === undefined) return undefined
  const { headers, jwt } = identity
  const told = headers ? TOLD_HEADERS : []
  if (jwt === undefined) return { headers, token: undefined, fields: new Set(told) }
  const { key, algorithm, header, issuer, audience = name, ttl } = jwt
  const { kid } = publicKey(key.text)
  return {
    headers,
    token: {
      key: key.text,
      algorithm,
      kid: kid!,
      header,
      issuer,
      audience,
      ttl: Math.floor(ttl / 1000),
    },
    fields: new Set([...told, header]),
  }
}

/** Returns the lower-case names of all headers that clients cannot send, for any service. */
export function identityHeaderNames({ services }: Config): ReadonlySet<string> {
  const tokens = Object.values(services).map(({ identity }) => identity?.jwt?.header)
  // Backends judge the Authorization that clients send. The gateway replaces it only where its own token goes there.
  const own = tokens.filter((name) => name !== undefined && name !== 'authorization') as string[]
  return new Set([...TOLD_HEADERS, ...own])
}

/** Returns the keys that verify the gateway's tokens, each once. */
export function publishedKeys({ services }: Config): readonly PublicKey[] {
  const found = new Map<string, PublicKey>()
  for (const { identity } of Object.values(services)) {
    if (identity?.jwt === undefined) continue
    for (const { text } of [identity.jwt.key, ...identity.jwt.publish]) {
      const key = publicKey(text)
      found.set(key.kid!, key)
    }
  }
  return [...found.values()]
}

/** Returns the algorithm that a key is for; undefined for an unsupported key. */
export function algorithmOf(key: KeyObject): IdentityToken['algorithm'] | undefined {
  switch (key.asymmetricKeyType) {
    case 'ec':
      return key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? 'ES256' : undefined
    case 'ed25519':
      return 'EdDSA'
    case 'rsa':
      return (key.asymmetricKeyDetails?.modulusLength ?? 0) >= 2048 ? 'RS256' : undefined
    default:
      return undefined
  }
}

/** Members that a thumbprint covers, in this order (RFC 7638 §3.2, RFC 8037 §2). */
const THUMBPRINT = { EC: ['crv', 'kty', 'x', 'y'], OKP: ['crv', 'kty', 'x'], RSA: ['e', 'kty', 'n'] }

function publicKey(pem: string): PublicKey {
  const key = createPublicKey(pem)
  const jwk = key.export({ format: 'jwk' }) as Record<string, string>
  const members = THUMBPRINT[jwk.kty as keyof typeof THUMBPRINT]
  const text = JSON.stringify(Object.fromEntries(members.map((name) => [name, jwk[name]])))
  const kid = createHash('sha256').update(text).digest('base64url')
  return { ...jwk, kid, use: 'sig', alg: algorithmOf(key)! }
}
