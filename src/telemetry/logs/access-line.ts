import { getOrAdd } from '../../common/maps.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import type { DecidedBy, Decision } from '../../limiter/limiter.js'
import { perSnapshot } from '../record/per-snapshot.js'
import type { RequestRecord } from '../record/record.js'
import { pathOf } from '../record/target.js'

/** Longest text of a client that a line repeats, in UTF-16 units. */
const MAX_TEXT = 1024

/** Room for the longest line: 13 texts of that length, six bytes a unit, with names of fields and numbers. */
const MOST_BYTES = 96 * 1024

/**
 * Creates a function that formats a request as one line of JSON, in bytes. A string would be joined from some forty
 * pieces, and flattened and copied again when it is written. Parts that a route and tier have in common are formatted
 * once per snapshot; only text that needs escapes goes through `JSON.stringify`.
 *
 * @param now returns the current time in Unix ms
 * @returns the line, in memory that the next line overwrites
 */
export function createLineBuilder(now: () => number = Date.now): (r: RequestRecord) => Buffer {
  const partsOf = perSnapshot((): (Buffer | undefined)[] => [])
  const upstreams = new WeakMap<Upstream, Buffer>()
  const start = createStart(now)
  const bytes = Buffer.allocUnsafeSlow(MOST_BYTES)

  function constantPart(r: RequestRecord): Buffer {
    const at = (r.route === undefined ? 0 : r.route.index + 1) * (r.snapshot.tiers.length + 1) + r.tier + 1
    // There may be any number of different costs, so these parts are not cached.
    if (r.cost !== undefined && r.cost !== r.route?.cost) return makeConstantPart(r, r.cost)
    const parts = partsOf(r.snapshot)
    parts[at] ??= makeConstantPart(r, r.route?.cost)
    return parts[at]
  }

  const makeUpstreamPart = ({ origin }: Upstream) =>
    ascii(`,"upstream":"${escaped(new URL(origin).host)}","upstream_ms":`)
  const upstreamPart = (upstream: Upstream) => getOrAdd(upstreams, upstream, makeUpstreamPart)

  return function line(r) {
    let at = putText(bytes, putBytes(bytes, 0, start()), r.requestId)
    if (r.trace !== undefined) {
      at = putText(bytes, putBytes(bytes, at, TRACE_ID), r.trace.traceId)
      at = putText(bytes, putBytes(bytes, at, SPAN_ID), r.trace.spanId)
    }
    at = putText(bytes, putBytes(bytes, at, METHOD), r.method)
    at = putText(bytes, putBytes(bytes, at, HOST), r.host)
    at = putText(bytes, putBytes(bytes, at, PATH), pathOf(r.target))
    at = putBytes(bytes, at, constantPart(r))
    if (r.consumer !== undefined) {
      at = putText(bytes, putBytes(bytes, at, CONSUMER), r.consumer)
      if (r.tenant !== undefined) at = putText(bytes, putBytes(bytes, at, TENANT), r.tenant)
      bytes[at++] = QUOTE
    }
    at = putText(bytes, putBytes(bytes, at, CLIENT_IP), r.clientIp)
    at = putNumber(bytes, putBytes(bytes, at, STATUS), r.status)
    if (r.error !== undefined) at = putQuoted(bytes, at, ERROR, r.error)
    if (r.cause !== undefined) at = putQuoted(bytes, at, CAUSE, r.cause)
    if (r.decision !== undefined) at = putDecision(bytes, at, r, r.decision)
    if (r.upstream !== undefined)
      at = putMilliseconds(bytes, putBytes(bytes, at, upstreamPart(r.upstream)), r.upstreamMs)
    at = putMilliseconds(bytes, putBytes(bytes, at, DURATION_MS), r.durationMs)
    at = putNumber(bytes, putBytes(bytes, at, BYTES_IN), r.bytesIn)
    at = putNumber(bytes, putBytes(bytes, at, BYTES_OUT), r.bytesOut)
    return bytes.subarray(0, putBytes(bytes, at, END))
  }
}

const ascii = (text: string): Buffer => Buffer.from(text, 'latin1')

// Each begins with the quote that ends the value before it, where that is a text.
const TRACE_ID = ascii('","trace_id":"')
const SPAN_ID = ascii('","span_id":"')
const METHOD = ascii('","method":"')
const HOST = ascii('","host":"')
const PATH = ascii('","path":"')
const CONSUMER = ascii(',"consumer":"')
const TENANT = ascii('","tenant":"')
const CLIENT_IP = ascii(',"client_ip":"')
const STATUS = ascii('","status":')
const ERROR = ascii(',"error":"')
const CAUSE = ascii(',"cause":"')
const DECIDED_BY: Readonly<Record<DecidedBy, Buffer>> = {
  store: ascii(',"decided_by":"store"'),
  cache: ascii(',"decided_by":"cache"'),
  local: ascii(',"decided_by":"local"'),
  open: ascii(',"decided_by":"open"'),
  closed: ascii(',"decided_by":"closed"'),
}
const DEGRADED = ascii(',"degraded":"')
const REMAINING = ascii(',"remaining":')
const LIMIT = ascii(',"limit":"')
const LIMIT_MS = ascii(',"limit_ms":')
const DURATION_MS = ascii(',"duration_ms":')
const BYTES_IN = ascii(',"bytes_in":')
const BYTES_OUT = ascii(',"bytes_out":')
const END = ascii('}\n')

function makeConstantPart({ snapshot, route, tier }: RequestRecord, cost: number | undefined): Buffer {
  const tierName = snapshot.tiers[tier]
  const ofTier = tierName === undefined ? '' : `,"tier":"${escaped(tierName)}"`
  const ofRoute =
    route === undefined
      ? ''
      : `,"route":"${escaped(route.label)}","service":"${escaped(route.service.name)}","cost":${cost}`
  // The first quote ends the path.
  return ascii(`"${ofRoute}${ofTier},"config":"${snapshot.hash}"`)
}

function putDecision(bytes: Buffer, from: number, r: RequestRecord, decision: Decision): number {
  const { decidedBy, reason } = decision
  let at = putBytes(bytes, from, DECIDED_BY[decidedBy])
  if (reason !== undefined) at = putQuoted(bytes, at, DEGRADED, reason)
  // open and closed count nothing, so nothing remains
  if (decidedBy !== 'open' && decidedBy !== 'closed') {
    at = putNumber(bytes, putBytes(bytes, at, REMAINING), decision.remaining)
    const limit = decision.allowed ? undefined : r.policy?.limits[decision.binding]
    if (limit !== undefined) at = putQuoted(bytes, at, LIMIT, limit.name)
  }
  return putMilliseconds(bytes, putBytes(bytes, at, LIMIT_MS), r.limitMs)
}

// Each of these writes at a place, and returns the place behind it.

function putBytes(bytes: Buffer, at: number, part: Buffer): number {
  bytes.set(part, at)
  return at + part.length
}

function putQuoted(bytes: Buffer, from: number, key: Buffer, text: string): number {
  const at = putText(bytes, putBytes(bytes, from, key), text)
  bytes[at] = QUOTE
  return at + 1
}

/** Puts ASCII text as it is. */
function put(bytes: Buffer, at: number, text: string): number {
  const { length } = text
  for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i)
  return at + length
}

/** Puts any text, as between the quotes of a JSON string. */
function putText(bytes: Buffer, at: number, text: string): number {
  const { length } = text
  if (length > MAX_TEXT) return put(bytes, at, escaped(text))
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i)
    if (code < SPACE || code > TILDE || code === QUOTE || code === BACKSLASH)
      return put(bytes, at, escaped(text))
    bytes[at + i] = code
  }
  return at + length
}

const SPACE = 0x20
const QUOTE = 0x22
const BACKSLASH = 0x5c
const TILDE = 0x7e

/** Returns the text between the quotes of a JSON string, cut if it is long. */
function escaped(text: string): string {
  const short = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}...` : text
  return asciiOnly(JSON.stringify(short).slice(1, -1))
}

/** Escapes what is not ASCII in JSON. Lines are ASCII: cheaper to write, and nothing in them can control a terminal. */
export function asciiOnly(json: string): string {
  return json.replace(/[\x7f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

const ZERO = 0x30
const POINT = 0x2e
const MOST_INTEGER = 999_999_999

function putNumber(bytes: Buffer, at: number, n: number): number {
  if (!(n >= 0 && n <= MOST_INTEGER && Number.isInteger(n))) return put(bytes, at, String(n))
  let digits = 1
  for (let bound = 10; n >= bound; bound *= 10) digits++
  let rest = n
  for (let i = at + digits - 1; i >= at; i--) {
    const tenth = Math.floor(rest / 10)
    bytes[i] = ZERO + rest - 10 * tenth
    rest = tenth
  }
  return at + digits
}

/** Puts ms with three decimals, or as a whole number. */
function putMilliseconds(bytes: Buffer, at: number, ms: number): number {
  if (!(ms > 0)) return putNumber(bytes, at, 0)
  const micros = Math.round(ms * 1000)
  const whole = Math.floor(micros / 1000)
  const rest = micros - whole * 1000
  const end = putNumber(bytes, at, whole)
  if (rest === 0) return end
  bytes[end] = POINT
  putThree(bytes, end + 1, rest)
  return end + 4
}

function putThree(bytes: Buffer, at: number, n: number): void {
  bytes[at] = ZERO + Math.floor(n / 100)
  bytes[at + 1] = ZERO + (Math.floor(n / 10) % 10)
  bytes[at + 2] = ZERO + (n % 10)
}

/**
 * Creates a function that returns the start of a line: the time as ISO 8601 in UTC, to the millisecond. All but the
 * milliseconds is formatted once a second.
 */
function createStart(now: () => number): () => Buffer {
  const bytes = ascii('{"time":"0000-00-00T00:00:00.000Z","request_id":"')
  const date = bytes.indexOf('0')
  const millis = bytes.indexOf('.') + 1
  let second = Number.NaN
  let last = Number.NaN
  return () => {
    const ms = now()
    if (ms === last) return bytes
    last = ms
    const current = Math.floor(ms / 1000)
    if (current !== second) {
      second = current
      bytes.write(new Date(current * 1000).toISOString().slice(0, 19), date, 'latin1')
    }
    putThree(bytes, millis, Math.floor(ms - current * 1000))
    return bytes
  }
}
