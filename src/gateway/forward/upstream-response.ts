import { wholeReader } from '../../upstream/http1/whole-response.js'
import type { WholeReader } from '../../upstream/sender.js'
import type { Exchange } from '../exchange/exchange.js'
import { HSTS, pushHsts } from '../exchange/tls-info.js'
import { reportedCost } from '../quota/cost.js'
import { claimsQuota, pushDecidedBy, pushQuotaHeaders, QUOTA_FIELDS } from '../quota/headers.js'
import { pushAuthCookies } from '../transform/auth-fields.js'
import { MAPPED_FIELDS, mapLocations, mapsLocations } from '../transform/location.js'
import { shapeResponse } from '../transform/response-headers.js'
import { VIA } from './upstream-request.js'

/** Responses with more fields than this are refused: nobody sends so many in good faith. */
const MAX_RESPONSE_FIELDS = 100
/** A higher status is invalid (RFC 9110 §15), and Node's HTTP/2 throws on it. */
const MAX_STATUS = 599

/** Fields of the hop (RFC 9110 §7.6.1), and fields that the gateway sets itself. */
const DROPPED: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-request-id',
])

/**
 * Builds the header of an upstream's response for the client: with what the route and the gateway add, without what concerns
 * the hop. Notes the cost that the upstream reports.
 *
 * @param raw name, value, … as they came
 * @returns a text for the log that says why the response cannot be passed on
 */
export function clientHeaders(x: Exchange, status: number, raw: readonly string[]): string[] | string {
  if (status > MAX_STATUS) return `the status ${status} is above ${MAX_STATUS}`
  if (raw.length > MAX_RESPONSE_FIELDS * 2) return `more than ${MAX_RESPONSE_FIELDS} response fields`
  const { costHeader, shape } = x.route!
  const { decision } = x
  const quota = claimsQuota(decision)
  if (costHeader !== undefined) x.toldCost = reportedCost(raw, costHeader)
  const fields = endToEnd(raw, x.requestId, quota, costHeader, status === 101 || status === 204)
  if (fields === undefined) return 'a transfer coding that the gateway did not ask for'
  mapLocations(fields, x)
  return pushOwn(shape === undefined ? fields : shapeResponse(fields, shape, x), x)
}

function pushOwn(out: string[], x: Exchange): string[] {
  const { policy, decision, route } = x
  if (claimsQuota(decision)) pushQuotaHeaders(out, policy!, decision)
  else pushDecidedBy(out, route!.quotaOf, decision)
  pushHsts(out, x.secured)
  pushAuthCookies(out, x)
  return out
}

/** Returns what the gateway adds to a response that `wholeReaderOf` has read. */
export function ownFields(x: Exchange): string[] {
  return pushOwn(['Via', VIA, 'X-Request-Id', x.requestId], x)
}

/**
 * Returns the upstream's end-to-end fields as they came, with repeated fields and their order kept, and the gateway's.
 *
 * @param claimsQuota drop the upstream's own RateLimit fields, because the gateway's follow
 * @param hidden lower-case name of a field that is only for the gateway, if there is one
 * @param noContent the status allows no body and no length (RFC 9110 §8.6)
 * @returns undefined when the body has a coding that the gateway neither removes nor asked for
 */
function endToEnd(
  raw: readonly string[],
  requestId: string,
  claimsQuota: boolean,
  hidden: string | undefined,
  noContent: boolean,
): string[] | undefined {
  const out: string[] = []
  let named: string[] | undefined
  let chunked = false
  let via = VIA
  for (let i = 0; i < raw.length; i += 2) {
    const wireName = raw[i]!
    const name = wireName.toLowerCase()
    if (DROPPED.has(name)) {
      if (name === 'connection') named = namedFields(raw[i + 1]!, named)
      if (name === 'transfer-encoding') {
        if (chunked || raw[i + 1]!.toLowerCase() !== 'chunked') return undefined
        chunked = true
      }
      continue
    }
    if (noContent && name === 'content-length') continue
    if (name === hidden || (claimsQuota && QUOTA_FIELDS.has(name))) continue
    const value = raw[i + 1]!
    if (name === 'via') {
      via = `${value}, ${via}`
      continue
    }
    out.push(wireName, value)
  }
  if (named !== undefined) {
    for (let i = out.length - 2; i >= 0; i -= 2) {
      if (named.includes(out[i]!.toLowerCase())) out.splice(i, 2)
    }
  }
  out.push('Via', via, 'X-Request-Id', requestId)
  return out
}

const readUnmapped = wholeReader([...DROPPED, ...QUOTA_FIELDS, 'via'])
const readMapped = wholeReader([...DROPPED, ...QUOTA_FIELDS, 'via', ...MAPPED_FIELDS])
const readWithHsts = wholeReader([...DROPPED, ...QUOTA_FIELDS, 'via', ...MAPPED_FIELDS, HSTS])

/**
 * Returns the reader of whole responses to this request. It leaves those to the other reader of which the client gets more
 * or less than the upstream has sent, besides what `ownFields` adds.
 */
export function wholeReaderOf(x: Exchange): WholeReader {
  if (x.secured?.hsts !== undefined) return readWithHsts
  return mapsLocations(x) ? readMapped : readUnmapped
}

/** Returns whether a response ends with its head, whatever the head says of a body (RFC 9112 §6.3). */
export function hasNoBody(status: number): boolean {
  return status === 204 || status === 304
}

function namedFields(connection: string, before: string[] | undefined): string[] | undefined {
  const value = connection.toLowerCase()
  if (value === 'keep-alive' || value === 'close') return before
  const named = value.split(',').map((token) => token.trim())
  return before === undefined ? named : [...before, ...named]
}

const PLAIN = /^[\t\x20-\x7e]+$/

/** Returns the upstream's reason phrase if it can be sent on, otherwise undefined (it means nothing: RFC 9112 §4). */
export function reasonPhrase(text: string): string | undefined {
  if (text === 'OK') return text
  return PLAIN.test(text) ? text : undefined
}

/**
 * Matches a Link value that Node's `writeEarlyHints` accepts. Node's own expression can read `a=b` in two ways and tries
 * both for each parameter before it refuses: forty parameters in a malformed link stop the process for hours. This one has
 * only one way.
 */
const LINK = /^<[^>]*>(?:\s*;\s*[^;"\s=]+(?:=(?:"[^;"\s]*"|[^;"\s]*))?)*$/

/**
 * Returns the Link fields of a 103 response (RFC 8297): the fields that a browser can use early.
 *
 * @returns none if one of them is malformed
 */
export function linksOf(raw: readonly string[]): string[] {
  const links: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.toLowerCase() !== 'link') continue
    if (!LINK.test(raw[i + 1]!)) return []
    links.push(raw[i + 1]!)
  }
  return links
}

/** Returns the upstream's trailers that may follow a body (RFC 9110 §6.5.1): none that says how to read or route it. */
export function trailersOf(raw: readonly string[]): [name: string, value: string][] {
  const out: [string, string][] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase()
    if (!DROPPED.has(name) && !NO_TRAILERS.has(name)) out.push([name, raw[i + 1]!])
  }
  return out
}

const NO_TRAILERS: ReadonlySet<string> = new Set([
  'authorization',
  'cache-control',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'host',
  'location',
  'retry-after',
  'set-cookie',
  'via',
])
