import { createHmac, type KeyObject, sign } from 'node:crypto'

export interface Signing {
  /** Of HTTP, or a private key of Ed25519. */
  readonly secret: string | KeyObject
  readonly keyid: string
  /** Unix seconds; now unless said otherwise. */
  readonly created?: number | undefined
  /** Behind created and keyid: `;nonce="a"`. */
  readonly more?: string
  readonly label?: string
}

/**
 * The two fields of a signature by RFC 9421, made by hand: what a client would do, without any part of ours.
 *
 * @param lines what is covered, with its value, in order
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
