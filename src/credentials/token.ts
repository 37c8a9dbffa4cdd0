import { isUtf8 } from 'node:buffer'

/** Longest token, in characters. */
export const MAX_TOKEN = 8192

type Json = Readonly<Record<string, unknown>>

/** A decoded token. Nothing in it is verified yet. */
export interface UnprovenToken {
  readonly header: Json
  readonly claims: Json
}

/**
 * Decodes a JWS in compact form (RFC 7515 §7.1, RFC 7519). Refuses what two readers could understand differently:
 * another spelling of the same bytes, bytes that are not UTF-8, a member that occurs twice.
 *
 * @returns a text that says why it is not a token, for the log
 */
export function readToken(text: string): UnprovenToken | string {
  if (text.length > MAX_TOKEN) return `it has ${text.length} characters, more than ${MAX_TOKEN}`
  const parts = text.split('.', 6)
  if (parts.length === 5) return 'it is encrypted (JWE)'
  if (parts.length !== 3) return 'it does not have three parts'
  const header = readObject(parts[0]!)
  if (typeof header === 'string') return `its header ${header}`
  // Checked before the claims: most bad tokens fail here.
  const problem = headerProblem(header)
  if (problem !== undefined) return problem
  if (bytesOf(parts[2]!) === undefined) return 'its signature is not base64url'
  const claims = readObject(parts[1]!)
  if (typeof claims === 'string') return `its payload ${claims}`
  return { header, claims }
}

function headerProblem({ alg, crit, b64, kid, typ, enc }: Json): string | undefined {
  if (typeof alg !== 'string') return 'its header names no algorithm'
  // Tidegate supports no extension, so it must refuse a token with a critical one (RFC 7515 §4.1.11).
  if (crit !== undefined) return 'its header has crit'
  if (b64 !== undefined) return 'its header has b64'
  if (enc !== undefined) return 'it is encrypted (JWE)'
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > 256))
    return 'its kid is not text of at most 256 characters'
  return typ === undefined || typeof typ === 'string' ? undefined : 'its typ is not text'
}

function readObject(encoded: string): Json | string {
  const bytes = bytesOf(encoded)
  if (bytes === undefined) return 'is not base64url'
  if (!isUtf8(bytes)) return 'is not UTF-8'
  const text = bytes.toString('utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return 'is not JSON'
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'is not a JSON object'
  return countKeys(value) === countWrittenKeys(text) ? (value as Json) : 'has a member twice'
}

/**
 * Decodes base64url. Returns undefined unless the text is the canonical spelling of its bytes (RFC 4648 §3.5, §5):
 * Node's decoder accepts others, too.
 */
function bytesOf(encoded: string): Buffer | undefined {
  if (encoded === '') return undefined
  const bytes = Buffer.from(encoded, 'base64url')
  return bytes.toString('base64url') === encoded ? bytes : undefined
}

/** Matches every string of valid JSON, with the colon after it when the string is a member's name. */
const TEXTS = /"(?:[^"\\]|\\.)*"(\s*:)?/g

function countWrittenKeys(text: string): number {
  let count = 0
  for (const [, colon] of text.matchAll(TEXTS)) if (colon !== undefined) count++
  return count
}

/** Counts the keys of a value and of all objects nested in it. */
function countKeys(value: object): number {
  let count = 0
  const waiting: object[] = [value]
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const inside = Object.values(next)
    if (!Array.isArray(next)) count += inside.length
    for (const one of inside) if (typeof one === 'object' && one !== null) waiting.push(one)
  }
  return count
}
