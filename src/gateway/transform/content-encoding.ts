import type { Coding, Compress } from '../../config/snapshot/compress.js'
import type { Exchange } from '../exchange/exchange.js'
import { joinedField } from '../exchange/header-list.js'
import { pushVary } from './cors.js'

/** Headers that are wrong for a body with another coding. The digests are of the original bytes. */
const UNTRUE: ReadonlySet<string> = new Set([
  'content-length',
  'accept-ranges',
  'content-md5',
  'digest',
  'content-digest',
  'repr-digest',
])
/** Statuses without a body, with a part of one, or with one that means something else in pieces. */
const UNCHANGED: ReadonlySet<number> = new Set([204, 205, 206, 304])
const NO_TRANSFORM = /(?:^|,)\s*no-transform\s*(?:,|$)/i

/**
 * Chooses the coding of the response, if it differs from the original one. Adjusts the headers that describe the body.
 *
 * @param fields headers of the response, flat: name, value, …; changed in place
 * @param available codings that can be made here and now
 */
export function chooseCoding(
  compress: Compress,
  x: Exchange,
  status: number,
  fields: string[],
  available: readonly Coding[],
): Coding | undefined {
  if (UNCHANGED.has(status) || !isWorthIt(compress, fields)) return undefined
  // Also if this client gets the original: for a cache, the next client's response differs.
  pushVary(fields, 'Accept-Encoding')
  if (x.method === 'HEAD' || NO_TRANSFORM.test(joinedField(x.headers.forward, 'cache-control') ?? ''))
    return undefined
  const coding = negotiated(
    joinedField(x.headers.forward, 'accept-encoding') ?? '',
    compress.encodings.filter((name) => available.includes(name)),
  )
  if (coding === undefined) return undefined
  for (let i = fields.length - 2; i >= 0; i -= 2) {
    const name = fields[i]!.toLowerCase()
    if (UNTRUE.has(name) || name === 'content-encoding') fields.splice(i, 2)
    // Two codings of the same body are not identical byte by byte (RFC 9110 §8.8.1).
    else if (name === 'etag' && !fields[i + 1]!.startsWith('W/')) fields[i + 1] = `W/${fields[i + 1]}`
  }
  fields.push('Content-Encoding', coding)
  return coding
}

function isWorthIt({ takes, minSize }: Compress, fields: readonly string[]): boolean {
  let type: string | undefined
  for (let i = 0; i < fields.length; i += 2) {
    const value = fields[i + 1]!
    switch (fields[i]!.toLowerCase()) {
      case 'content-type':
        type = value.split(';', 1)[0]!.trim().toLowerCase()
        break
      case 'content-encoding':
        if (value.trim().toLowerCase() !== 'identity') return false
        break
      case 'content-length':
        if (Number(value) < minSize) return false
        break
      case 'content-range':
        return false
      case 'cache-control':
        if (NO_TRANSFORM.test(value)) return false
        break
    }
  }
  return type !== undefined && takes(type)
}

const WEIGHT = /^(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$/

/**
 * Returns the coding that the client prefers (RFC 9110 §12.5.3); of several, the first offered. Undefined if it prefers
 * the original body, or accepts no offered coding.
 */
export function negotiated(accepted: string, offered: readonly Coding[]): Coding | undefined {
  if (accepted === '' || accepted.length > 1024) return undefined
  const weights = new Map<string, number>()
  for (const item of accepted.toLowerCase().split(',')) {
    const [coding, ...parameters] = item.split(';').map((text) => text.trim())
    if (coding === undefined || coding === '') continue
    const given = parameters.find((text) => /^q\s*=/.test(text))?.replace(/^q\s*=\s*/, '')
    // An invalid weight does not count as a preference.
    const weight = given === undefined ? 1 : WEIGHT.test(given) ? Number(given) : 0
    weights.set(coding === 'x-gzip' ? 'gzip' : coding, weight)
  }
  let best: Coding | undefined
  let most = 0
  for (const coding of offered) {
    const weight = weights.get(coding) ?? weights.get('*') ?? 0
    if (weight <= most) continue
    best = coding
    most = weight
  }
  return most >= (weights.get('identity') ?? 0) ? best : undefined
}
