import { isUtf8 } from 'node:buffer'

/** Longest token, in characters. */
export const MAX_TOKEN = 8192

type Json = Readonly<Record<string, unknown>>

/** A token taken apart. Nothing of it is proven yet. */
export interface UnprovenToken {
  readonly header: Json
  readonly claims: Json
}

/**
 * Takes a JWS in compact form apart (RFC 7515 §7.1, RFC 7519). What two readers could understand differently is
 * refused: another spelling of the same bytes, bytes that are no UTF-8, a member that is there twice.
 *
 * @returns a text that says why it is none, for the log
 */
export function readToken(text: string): UnprovenToken | string {
  if (text.length > MAX_TOKEN) return `it has ${text.length} characters, more than ${MAX_TOKEN}`
  const parts = text.split('.', 6)
  if (parts.length === 5) return 'it is encrypted (JWE)'
  if (parts.length !== 3) return 'it does not have three parts'
  const header = readObject(parts[0]!)
  if (typeof header === 'string') return `its header ${header}`
  // Before the claims: most of what is no good is seen here.
  const problem = headerProblem(header)
  if (problem !== undefined) return problem
  if (bytesOf(parts[2]!) === undefined) return 'its signature is not base64url'
  const claims = readObject(parts[1]!)
  if (typeof claims === 'string') return `its payload ${claims}`
  return { header, claims }
}

function headerProblem({ alg, crit, b64, kid, typ, enc }: Json): string | undefined {
  if (typeof alg !== 'string') return 'its header names no algorithm'
  // No extension is understood here, so that one which has to be is a reason to refuse (RFC 7515 §4.1.11).
  if (crit !== undefined) return 'its header has crit'
  if (b64 !== undefined) return 'its header has b64'
  if (enc !== undefined) return 'it is encrypted (JWE)'
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > 256))
    return 'its kid is no text of 256 characters'
  return typ === undefined || typeof typ === 'string' ? undefined : 'its typ is no text'
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
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'is no JSON object'
  return countKeys(value) === countWrittenKeys(text) ? (value as Json) : 'has a member twice'
}

/** Undefined unless it is the one spelling of its bytes (RFC 4648 §3.5, §5): Node's decoder takes others, too. */
function bytesOf(encoded: string): Buffer | undefined {
  if (encoded === '') return undefined
  const bytes = Buffer.from(encoded, 'base64url')
  return bytes.toString('base64url') === encoded ? bytes : undefined
}

/** In valid JSON every text and, when it is a member's name, the colon behind it. */
const TEXTS = /"(?:[^"\\]|\\.)*"(\s*:)?/g

function countWrittenKeys(text: string): number {
  let count = 0
  for (const [, colon] of text.matchAll(TEXTS)) if (colon !== undefined) count++
  return count
}

/** Of all objects in it, however deep. */
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
