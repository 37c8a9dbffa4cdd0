import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

const MADE = {
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
} as const

export interface KeyFile {
  /** The private key in PEM. */
  readonly file: string
  readonly pem: string
  readonly publicKey: KeyObject
}

/** Writes a new private key into a file. */
export function keyFile(t: Cleanup, algorithm: keyof typeof MADE): KeyFile {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const { privateKey, publicKey } = MADE[algorithm]()
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const file = join(folder, 'key.pem')
  writeFileSync(file, pem)
  return { file, pem, publicKey }
}
