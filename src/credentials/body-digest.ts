import { createHash } from 'node:crypto'
import { readByteSequences } from './structured-fields.js'

/** The digest that a body must have, by one algorithm. */
export interface ExpectedDigest {
  readonly algorithm: 'sha256' | 'sha512'
  readonly value: Buffer
}

/** Hashes a body piece by piece. */
export type BodyDigest = ReturnType<typeof createBodyDigest>

/** One matching digest is enough. Other algorithms of RFC 9530 can be forged or are not supported. */
const ALGORITHMS = [
  ['sha-256', 'sha256'],
  ['sha-512', 'sha512'],
] as const

/** Reads `Content-Digest` (RFC 9530 §2). Returns undefined when it has no digest by a supported algorithm. */
export function readContentDigest(field: string): ExpectedDigest | undefined {
  const digests = readByteSequences(field)
  for (const [name, algorithm] of ALGORITHMS) {
    const value = digests?.get(name)
    if (value !== undefined) return { algorithm, value }
  }
  return undefined
}

export function createBodyDigest({ algorithm, value }: ExpectedDigest) {
  const hash = createHash(algorithm)
  return {
    add: (piece: Buffer): void => void hash.update(piece),
    /** Returns true if the body matches the expected digest. Called once, at the end of the body. */
    holds: (): boolean => hash.digest().equals(value),
  }
}

export function isBodyOf(expected: ExpectedDigest, body: Buffer): boolean {
  const digest = createBodyDigest(expected)
  digest.add(body)
  return digest.holds()
}
