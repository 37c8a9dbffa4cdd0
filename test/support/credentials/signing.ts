import { createHmac, type KeyObject, sign } from 'node:crypto'

export interface Signing {
  /** Name of an algorithm of HTTP message signatures, or an Ed25519 private key. */
  readonly secret: string | KeyObject
  readonly keyid: string
  /** Unix seconds; defaults to now. */
  readonly created?: number | undefined
  /** Parameters after created and keyid: `;nonce="a"`. */
  readonly more?: string
  readonly label?: string
}

/**
 * Returns the two header values of an RFC 9421 signature, made by hand as a client would, without any of our code.
 *
 * @param lines the covered components with their values, in order
 */
export function signed(
  lines: readonly (readonly [component: string, value: string])[],
  { secret, keyid, created = Math.floor(Date.now() / 1000), more = '', label = 'sig' }: Signing,
): readonly ['Signature-Input', string, 'Signature', string] {
  const covered = lines.map(([name]) => `"${name}"`).join(' ')
  const params = `(${covered});created=${created};keyid="${keyid}"${more}`
  const base = [
    ...lines.map(([name, value]) => `"${name}": ${value}`),
    `"@signature-params": ${params}`,
  ].join('\n')
  const bytes = Buffer.from(base, 'latin1')
  const made =
    typeof secret === 'string'
      ? createHmac('sha256', secret).update(bytes).digest()
      : sign(null, bytes, secret)
  return ['Signature-Input', `${label}=${params}`, 'Signature', `${label}=:${made.toString('base64')}:`]
}
