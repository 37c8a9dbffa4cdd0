import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import type { Decision } from '../../limiter/limiter.js'
import { perSnapshot } from '../record/per-snapshot.js'
import type { RequestRecord } from '../record/record.js'
import { pathOf } from '../record/target.js'
import type { TraceContext } from '../record/trace-context.js'
import type { LineFilter } from './line-filter.js'
import { createLineSink } from './line-sink.js'
import { openOutput, wholeWrite } from './output.js'

/** Writes one JSON line per request. `docs/logs.md` lists the fields. */
export interface AccessLog {
  /** Writes a line. Never waits, never throws: a line without room is counted in `dropped`. */
  write(r: RequestRecord): void
  flush(timeoutMs?: number): Promise<void>
  flushSync(): void
  dropped(): number
  /** Returns the number of filtered lines by reason. */
  leftOut(): Readonly<Record<string, number>>
  /** Reopens the file after a log rotation has moved it away. */
  reopen(): void
  close(): Promise<void>
}

export interface AccessLogOptions {
  readonly destination: 'stdout' | 'off' | (string & {})
  readonly onProblem?: (error: Error) => void
  /** True if other processes write to the same destination. */
  readonly shared?: boolean
  /** Chooses the requests that get a line. Default: all. */
  readonly filter?: LineFilter
}

/** Longest text of a client that a line repeats, in UTF-16 units. */
const MAX_TEXT = 1024

/** Creates an access log. Throws when the destination is a path that cannot be opened for appending. */
export function createAccessLog(options: AccessLogOptions): AccessLog {
  if (options.destination === 'off') return NO_ACCESS_LOG
  const whole = options.shared ? wholeWrite(options.destination) : undefined
  const sink = createLineSink(openOutput(options.destination), {
    onProblem: options.onProblem,
    encoding: 'latin1',
    ...(whole === undefined ? {} : { chunkSize: whole }),
  })
  const line = createLineBuilder()
  const { filter } = options
  return {
    write(r) {
      if (filter !== undefined && !filter.keeps(r)) return
      const text = line(r)
      sink.write(whole === undefined || text.length <= whole ? text : shorten(text))
    },
    flush: sink.flush,
    flushSync: sink.flushSync,
    dropped: sink.dropped,
    leftOut: () => filter?.leftOut() ?? {},
    reopen: sink.reopen,
    close() {
      filter?.close()
      return sink.close()
    },
  }
}

/**
 * Longest text in a shortened line: a line with every value this long stays below 4 KiB, even at six bytes a character.
 */
const SHORT_TEXT = 64

/** Shortens a line that would not be written whole beside those of other processes. */
function shorten(line: string): string {
  const cut = (_: string, value: unknown) =>
    typeof value === 'string' && value.length > SHORT_TEXT ? `${value.slice(0, SHORT_TEXT)}...` : value
  return `${JSON.stringify(JSON.parse(line), cut).replace(NOT_ASCII, escapeUnit)}\n`
}

/** Writes nothing. */
export const NO_ACCESS_LOG: AccessLog = {
  write() {},
  flush: () => Promise.resolve(),
  flushSync() {},
  dropped: () => 0,
  leftOut: () => ({}),
  reopen() {},
  close: () => Promise.resolve(),
}

/**
 * Creates a function that formats a request as a line, without `JSON.stringify` for most of it: parts that a route and
 * tier have in common are formatted once per snapshot, and only text that needs escapes goes through `JSON.stringify`.
 *
 * @param now returns the current time in Unix ms
 */
export function createLineBuilder(now: () => number = Date.now): (r: RequestRecord) => string {
  const partsOf = perSnapshot((): (string | undefined)[] => [])
  const upstreams = new WeakMap<Upstream, string>()
  const time = createClock(now)

  function constantPart(r: RequestRecord): string {
    const at = (r.route === undefined ? 0 : r.route.index + 1) * (r.snapshot.tiers.length + 1) + r.tier + 1
    // There may be any number of different costs, so these parts are not cached.
    if (r.cost !== undefined && r.cost !== r.route?.cost) return makeConstantPart(r, r.cost)
    const parts = partsOf(r.snapshot)
    parts[at] ??= makeConstantPart(r, r.route?.cost)
    return parts[at]
  }

  function upstreamPart(upstream: Upstream): string {
    let part = upstreams.get(upstream)
    if (part === undefined) {
      part = inOnePiece(`,"upstream":"${inside(new URL(upstream.origin).host)}","upstream_ms":`)
      upstreams.set(upstream, part)
    }
    return part
  }

  // The quotes are in the template: each piece that is joined separately costs again when the line is written.
  return function line(r) {
    const decision = r.decision
    return `{"time":"${time()}","request_id":"${inside(r.requestId)}"${tracePart(r.trace)},"method":"${inside(r.method)}","host":"${inside(
      r.host,
    )}","path":"${inside(pathOf(r.target))}"${constantPart(r)}${
      r.consumer === undefined ? '' : `,"consumer":"${inside(r.consumer)}"${tenantPart(r.tenant)}`
    },"client_ip":"${inside(r.clientIp)}","status":${r.status}${r.error === undefined ? '' : `,"error":"${r.error}"`}${
      r.cause === undefined ? '' : `,"cause":"${inside(r.cause)}"`
    }${decision === undefined ? '' : decisionPart(r, decision)}${r.upstream === undefined ? '' : upstreamPart(r.upstream)}${
      r.upstream === undefined ? '' : milliseconds(r.upstreamMs)
    },"duration_ms":${milliseconds(r.durationMs)},"bytes_in":${r.bytesIn},"bytes_out":${r.bytesOut}}\n`
  }
}

function tracePart(trace: TraceContext | undefined): string {
  return trace === undefined ? '' : `,"trace_id":"${trace.traceId}","span_id":"${trace.spanId}"`
}

function tenantPart(tenant: string | undefined): string {
  return tenant === undefined ? '' : `,"tenant":"${inside(tenant)}"`
}

function decisionPart(r: RequestRecord, decision: Decision): string {
  const { decidedBy, reason, remaining } = decision
  const degraded = reason === undefined ? '' : `,"degraded":"${reason}"`
  const limitMs = milliseconds(r.limitMs)
  // open and closed count nothing, so nothing remains
  if (decidedBy === 'open' || decidedBy === 'closed') {
    return `,"decided_by":"${decidedBy}"${degraded},"limit_ms":${limitMs}`
  }
  const limit = decision.allowed ? undefined : r.policy?.limits[decision.binding]
  const denied = limit === undefined ? '' : `,"limit":"${inside(limit.name)}"`
  return `,"decided_by":"${decidedBy}"${degraded},"remaining":${remaining}${denied},"limit_ms":${limitMs}`
}

function makeConstantPart({ snapshot, route, tier }: RequestRecord, cost: number | undefined): string {
  const tierName = snapshot.tiers[tier]
  const ofTier = tierName === undefined ? '' : `,"tier":"${inside(tierName)}"`
  const ofRoute =
    route === undefined
      ? ''
      : `,"route":"${inside(route.label)}","service":"${inside(route.service.name)}","cost":${cost}`
  return inOnePiece(`${ofRoute}${ofTier},"config":"${snapshot.hash}"`)
}

/**
 * Flattens an ASCII string. A concatenated string stays a tree of its parts, several times the size of the text, until
 * it is flattened.
 */
function inOnePiece(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

/** Printable ASCII without a quote or a backslash: valid inside a JSON string without escapes. */
const PLAIN = /^[ !#-[\]-~]*$/

/** Returns the text between the quotes of a JSON string. */
function inside(value: string): string {
  const short = value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT)}...` : value
  return PLAIN.test(short) ? short : JSON.stringify(short).slice(1, -1).replace(NOT_ASCII, escapeUnit)
}

/** Lines are ASCII: cheaper to write, and nothing in them can control a terminal. */
const NOT_ASCII = /[\x7f-\uffff]/g

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}

const THREE_DIGITS = Array.from({ length: 1000 }, (_, i) => String(i).padStart(3, '0'))

/** Formats ms with three decimals. Whole numbers print several times faster than fractions. */
function milliseconds(ms: number): string {
  if (!(ms > 0)) return '0'
  const micros = Math.round(ms * 1000)
  const whole = Math.floor(micros / 1000)
  const rest = micros - whole * 1000
  return rest === 0 ? `${whole}` : `${whole}.${THREE_DIGITS[rest]}`
}

/**
 * Creates a clock that formats the time as ISO 8601 in UTC, to the millisecond. All but the milliseconds is formatted
 * once a second.
 */
function createClock(now: () => number): () => string {
  let second = Number.NaN
  let prefix = ''
  let last = Number.NaN
  let text = ''
  return () => {
    const ms = now()
    if (ms === last) return text
    last = ms
    const current = Math.floor(ms / 1000)
    if (current !== second) {
      second = current
      prefix = new Date(current * 1000).toISOString().slice(0, 20)
    }
    text = `${prefix}${THREE_DIGITS[Math.floor(ms - current * 1000)]}Z`
    return text
  }
}
