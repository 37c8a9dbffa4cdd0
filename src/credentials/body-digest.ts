import { createHash } from 'node:crypto'
import { readByteSequences } from './structured-fields.js'

/** What a body has to be: its digest by one algorithm. */
export interface ExpectedDigest {
  readonly algorithm: 'sha256' | 'sha512'
  readonly value: Buffer
}

/** Takes a body piece by piece. */
export interface BodyDigest {
  add(piece: Buffer): void
  /** Whether it was the body that the digest is of. Asked once, at its end. */
  holds(): boolean
}

/** Of these one is enough. Others of RFC 9530 can be forged, or are not made here. */
const ALGORITHMS = [
  ['sha-256', 'sha256'],
  ['sha-512', 'sha512'],
] as const

/** Reads `Content-Digest` (RFC 9530 §2); undefined when it names none by an algorithm that is known here. */
export function readContentDigest(field: string): ExpectedDigest | undefined {
  const digests = readByteSequences(field)
  for (const [name, algorithm] of ALGORITHMS) {
    const value = digests?.get(name)
    if (value !== undefined) return { algorithm, value }
  }
  return undefined
}

export function createBodyDigest({ algorithm, value }: ExpectedDigest): BodyDigest {
  const hash = createHash(algorithm)
  return {
    add: (piece) => void hash.update(piece),
    holds: () => hash.digest().equals(value),
  }
}

export function isBodyOf(expected: ExpectedDigest, body: Buffer): boolean {
  const digest = createBodyDigest(expected)
  digest.add(body)
  return digest.holds()
}
