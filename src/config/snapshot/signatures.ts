import { createPublicKey } from 'node:crypto'
import type { SignatureConsumerSettings } from '../schema/signature.js'

/** Signed requests (RFC 9421), compiled. */
export interface SignatureSettings {
  readonly kind: 'signature'
  /** By their keyid. */
  readonly keys: ReadonlyMap<string, SignatureKey>
  /** What has to be covered, in lower case. */
  readonly components: readonly string[]
  /** Whether `content-digest` has to be, where there is a body. */
  readonly digest: boolean
  /** Ms from `created` on. */
  readonly maxAge: number
  /** Ms that clocks may differ. */
  readonly leeway: number
  readonly nonceRequired: boolean
  readonly maxNonces: number
  readonly tag: string | undefined
  /** What says to a caller which signature is wanted (RFC 9421 §5.1). */
  readonly accepted: string
}

export type SignatureAlgorithm = 'hmac-sha256' | 'ed25519' | 'ecdsa-p256-sha256'

export interface SignatureKey {
  /** By the kind of the key: what a signature says of it is believed only where it is the same. */
  readonly algorithm: SignatureAlgorithm
  /** The secret in base64, or the public key in PEM. */
  readonly key: string
  readonly owner: {
    readonly consumer: string
    /** Index into the tiers of the snapshot. */
    readonly tier: number | undefined
    readonly tenant: string | undefined
    readonly scopes: readonly string[] | undefined
  }
}

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T

/** @param tierIndex of a tier that the configuration has */
export function compileSignatures(
  settings: DeepReadonly<SignatureConsumerSettings>,
  tierIndex: (name: string) => number,
): SignatureSettings {
  const keys = settings.keys.map((key): [string, SignatureKey] => {
    const { consumer, tier, tenant, scopes } = key
    const owner = { consumer, tier: tier === undefined ? undefined : tierIndex(tier), tenant, scopes }
    if ('public_key' in key) {
      const { text } = key.public_key
      return [key.id, { algorithm: publicAlgorithm(text)!, key: text, owner }]
    }
    const secret = Buffer.from(key.secret, key.encoding === 'base64' ? 'base64' : 'utf8').toString('base64')
    return [key.id, { algorithm: 'hmac-sha256', key: secret, owner }]
  })
  const { components, tag } = settings
  const parameters = `;created;keyid${settings.nonce === 'required' ? ';nonce' : ''}`
  return {
    kind: 'signature',
    keys: new Map(keys),
    components,
    digest: settings.content_digest === 'required',
    maxAge: settings.max_age,
    leeway: settings.leeway,
    nonceRequired: settings.nonce === 'required',
    maxNonces: settings.max_nonces,
    tag,
    accepted: `sig=(${components.map((name) => `"${name}"`).join(' ')})${parameters}${tag === undefined ? '' : `;tag="${tag}"`}`,
  }
}

/** What a public key is for; undefined for one that is none of ours. */
export function publicAlgorithm(pem: string): SignatureAlgorithm | undefined {
  try {
    const key = createPublicKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return 'ed25519'
    const p256 = key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
    return p256 ? 'ecdsa-p256-sha256' : undefined
  } catch {
    return undefined
  }
}
