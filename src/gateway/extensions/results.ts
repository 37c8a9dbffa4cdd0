import { STATUS_CODES } from 'node:http'
import { PROBLEM_JSON } from '../../errors.js'
import { type Fields, headerList, type Reply, replyFrom } from '../../extension/respond.js'
import type { Exchange } from '../exchange/exchange.js'
import { Field, fieldTable, isClaim } from '../exchange/header-table.js'
import { plainName } from '../exchange/headers.js'
import type { FieldChange } from '../exchange/hook-state.js'
import type { Answer } from '../respond/send-response.js'
import { shapeOwn } from '../transform/response-headers.js'

/**
 * Checks for what hooks return. It may be anything: each property is read once, and copied before it is checked. All
 * functions throw a TypeError for what a hook may not return, and whatever a hostile value throws.
 */

/** Longest id of a consumer or tenant, in characters. */
const MAX_ID = 256
/** Controls, unassigned characters and halves of a pair. */
const UNPRINTABLE = /\p{C}/u

/** Returns the members of an object that a hook returned. */
export function membersOf(value: unknown, hook: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TypeError(`${hook} must return an object or undefined`)
  return { ...value }
}

/** Returns an id that a hook returned. */
export function idOf(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '' || value.length > MAX_ID || UNPRINTABLE.test(value))
    throw new TypeError(`${name} must be a text of 1 to ${MAX_ID} printable characters`)
  return value
}

/**
 * Returns the change to a header that a hook returned; undefined if there is none.
 *
 * @param forbids returns true for a lower-case name that hooks may not change
 */
export function changeOf(value: unknown, forbids: (name: string) => boolean): FieldChange | undefined {
  if (value === undefined) return undefined
  const fields = membersOf(value, 'headers') as Fields
  const put = headerList(fields)
  const names = Object.keys(fields).map((name) => name.toLowerCase())
  const forbidden = names.find(forbids)
  if (forbidden !== undefined) throw new TypeError(`a hook may not change the header ${forbidden}`)
  return { drop: new Set(names), put }
}

/** Fields that a hook may change on the way to the upstream, beside those that the table does not have. */
const FREE: ReadonlySet<Field> = new Set([
  Field.Plain,
  Field.Identity,
  Field.Signature,
  Field.UserAgent,
  Field.TraceParent,
  Field.TraceState,
])

/**
 * Returns true for a header that hooks may not send to an upstream: one of the hop or the framing, one that says where the
 * request came from, one by which the gateway vouches for the consumer, or one that a backend could take for it.
 *
 * @param name in lower case
 */
export function mayNotReachUpstream({ snapshot, route }: Exchange, name: string): boolean {
  const plain = plainName(name)
  if (isClaim(plain) || plain.startsWith('x-forwarded-')) return true
  if (route!.service.identity?.fields.has(name) === true) return true
  const table = fieldTable(snapshot)
  return [name, plain].some((one) => table.has(one) && !FREE.has(table.get(one)!))
}

/** Returns the response that a hook made with `respond`. */
export function answerOf(value: unknown, x: Exchange, extension: string, hook: string): Answer {
  const { status, headers, body, problem } = replyFrom(value)
  const fields = [...headers]
  const has = (name: string) => fields.some((one, i) => i % 2 === 0 && one.toLowerCase() === name)
  if (problem !== undefined && !has('content-type')) fields.push('Content-Type', PROBLEM_JSON)
  if (status >= 400 && !has('cache-control')) fields.push('Cache-Control', 'no-store')
  const { shape } = x.route!
  if (shape !== undefined) shapeOwn(fields, shape, x)
  return {
    status,
    fields,
    body: problem === undefined ? (body ?? '') : problemText(status, problem, x.requestId),
    cause: `extension ${extension} (${hook})`,
  }
}

function problemText(status: number, problem: NonNullable<Reply['problem']>, requestId: string): string {
  const { title = STATUS_CODES[status] ?? 'Refused', status: _, ...rest } = problem
  return JSON.stringify({ title, status, ...rest, request_id: requestId })
}
