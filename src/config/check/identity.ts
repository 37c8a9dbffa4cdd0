import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import type { IdentitySettings } from '../schema/identity.js'
import { type Draft, type DraftConfig, type Path, present, type Report } from '../schema/partial-config.js'
import { algorithmOf, TOLD_HEADERS } from '../snapshot/identity.js'

type Token = Draft<NonNullable<IdentitySettings['jwt']>>

const KEYS = {
  ES256: 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256',
  EdDSA: 'openssl genpkey -algorithm ed25519',
  RS256: 'openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048',
} as const

/**
 * Checks what upstreams learn of the client, beyond the schema: suitable keys, and headers that only the gateway
 * writes.
 */
export function checkIdentity({ services }: DraftConfig, error: Report): void {
  for (const [name, service] of Object.entries(services ?? {})) {
    const jwt = service?.identity?.jwt
    if (jwt === undefined) continue
    const path = ['services', name, 'identity', 'jwt']
    checkKeys(jwt, path, error)
    if (jwt.header !== undefined && (TOLD_HEADERS as readonly string[]).includes(jwt.header)) {
      error(
        [...path, 'header'],
        `"${jwt.header}" has another meaning; take a header such as x-tidegate-identity`,
      )
    }
  }
}

function checkKeys({ key, algorithm, publish }: Token, path: Path, error: Report): void {
  if (key?.text !== undefined && key.file !== undefined) {
    const read = readKey(key.text, createPrivateKey)
    if (read === undefined) {
      const held = key.text.includes('ENCRYPTED') ? 'an encrypted key' : 'no private key'
      error(
        [...path, 'key'],
        `${key.file} contains ${held}; name a PEM file with a private key without a passphrase`,
      )
    } else if (algorithm !== undefined && algorithmOf(read) !== algorithm) {
      const fits = algorithmOf(read)
      const wrong = fits === undefined ? 'for no supported algorithm' : `for ${fits}`
      const fix = `write ${fits === undefined ? '' : `algorithm: ${fits}, or `}make one: ${KEYS[algorithm]}`
      error([...path, 'key'], `the key in ${key.file} is ${wrong}, not ${algorithm}; ${fix}`)
    }
  }
  for (const [i, one] of present(publish)) {
    if (one.text === undefined) continue
    const read = readKey(one.text, createPublicKey)
    if (read !== undefined && algorithmOf(read) !== undefined) continue
    const held = 'no P-256, Ed25519 or 2048-bit RSA key'
    error([...path, 'publish', i], `${one.file} contains ${held}; name a PEM file with one`)
  }
}

function readKey(text: string, read: (pem: string) => KeyObject): KeyObject | undefined {
  try {
    return read(text)
  } catch {
    return undefined
  }
}
