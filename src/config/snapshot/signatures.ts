import { createPublicKey } from 'node:crypto'
import type { DeepReadonly } from '../schema/schema.js'
import type { SignatureConsumerSettings } from '../schema/signature.js'
import { type KeyOwner, ownerOf } from './key-owner.js'

/** Compiled settings of signed requests (RFC 9421). */
export interface SignatureSettings {
  readonly kind: 'signature'
  /** Keys by keyid. */
  readonly keys: ReadonlyMap<string, SignatureKey>
  /** Components that a signature must cover, in lower case. */
  readonly components: readonly string[]
  /** True if a signature must cover `content-digest` when there is a body. */
  readonly digest: boolean
  /** Maximum age after `created`, in ms. */
  readonly maxAge: number
  /** Tolerated clock difference, in ms. */
  readonly leeway: number
  readonly nonceRequired: boolean
  readonly maxNonces: number
  readonly tag: string | undefined
  /** Header value that tells a client which signature is required (RFC 9421 §5.1). */
  readonly accepted: string
}

export type SignatureAlgorithm = 'hmac-sha256' | 'ed25519' | 'ecdsa-p256-sha256'

export interface SignatureKey {
  /** Algorithm, from the kind of the key. A signature that names another one is rejected. */
  readonly algorithm: SignatureAlgorithm
  /** Secret in base64, or public key in PEM. */
  readonly key: string
  readonly owner: KeyOwner
}

/**
 * Compiles the settings.
 *
 * @param tierIndex returns the index of a tier in the configuration
 */
export function compileSignatures(
  settings: DeepReadonly<SignatureConsumerSettings>,
  tierIndex: (name: string) => number,
): SignatureSettings {
  const keys = settings.keys.map((key): [string, SignatureKey] => {
    const owner = ownerOf(key, tierIndex)
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

/** Returns the algorithm of a public key; undefined for an unsupported key. */
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
