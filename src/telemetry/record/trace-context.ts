import type { Recording } from './recording.js'

/** W3C Trace Context, Level 2 (https://www.w3.org/TR/trace-context-2/). */

/** The trace of a request, as far as known. */
export interface TraceContext {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string
  /** 16 lower-case hex digits: the gateway's own span if it records one, else the span of the client. */
  readonly spanId: string
  /** True if this gateway records the request. */
  readonly sampled: boolean
  /** Recorded data, if the gateway records the request. */
  readonly recording?: Recording | undefined
}

/** The span of a client, as its `traceparent` names it. */
export interface ParentContext {
  readonly traceId: string
  readonly spanId: string
  /** Flags, eight bits. */
  readonly flags: number
}

export const SAMPLED = 0x01
/** Flag of Level 2: the right half of the trace id is random. It stays with the id on every hop. */
export const RANDOM = 0x02

/** Later versions may have more after a further `-` (§4.3). `ff` is not a version. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:$|-)/

/**
 * Parses a `traceparent`.
 *
 * @returns undefined for an invalid one: its `tracestate` is then ignored, too
 */
export function parseTraceparent(value: string): ParentContext | undefined {
  if (!TRACEPARENT.test(value) || (value.startsWith('00') && value.length > 55)) return undefined
  return {
    traceId: value.slice(3, 35),
    spanId: value.slice(36, 52),
    flags: Number.parseInt(value.slice(53, 55), 16),
  }
}

export function formatTraceparent(traceId: string, spanId: string, flags: number): string {
  return `00-${traceId}-${spanId}-${flags < 16 ? '0' : ''}${flags.toString(16)}`
}

/** Limits of a forwarded `tracestate`, in characters and in members (§3.3.1.1, §3.3.1.5). */
const MAX_STATE = 512
const MAX_MEMBERS = 32

/** A key may begin with a digit and hold any number of `@` (§3.3.1.3.1). */
const MEMBER = /^[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]$/

/**
 * Parses the members of a `tracestate`, of all its headers joined by commas. Removes spaces and empty members between
 * them. Of several members with one key, keeps the first: it is the latest (§3.3.1.3).
 *
 * @returns undefined when it is invalid or too long, and must be dropped
 */
export function parseTracestate(value: string): string | undefined {
  if (value.length > MAX_STATE) return undefined
  const members: string[] = []
  const keys = new Set<string>()
  for (const part of value.split(',')) {
    const member = part.replace(/^[ \t]+|[ \t]+$/g, '')
    if (member === '') continue
    if (!MEMBER.test(member)) return undefined
    const key = member.slice(0, member.indexOf('='))
    if (keys.has(key)) continue
    keys.add(key)
    members.push(member)
  }
  return members.length === 0 || members.length > MAX_MEMBERS ? undefined : members.join(',')
}
