import { isUtf8 } from 'node:buffer'
import { parseJson } from '../../common/json.js'
import type { Refusal } from '../../errors.js'
import type { BoundHook, RouteHooks } from '../../extension/route-hooks.js'
import type { Shortage } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'
import { joinedField } from '../exchange/header-list.js'
import type { HookState } from '../exchange/hook-state.js'
import { retrySoon } from '../respond/client-error.js'

/** Hooks that may want the body of the request, and run before it is forwarded. */
const BEFORE = ['onRequest', 'cost', 'onUpstreamRequest'] as const

/** Returns the longest body of a request that these hooks take, in bytes; 0 if none of them wants it. */
export function mostWanted(hooks: RouteHooks | undefined): number {
  let most = 0
  if (hooks === undefined) return most
  for (const kind of BEFORE) for (const { body } of hooks[kind] ?? NONE) most = Math.max(most, body?.max ?? 0)
  return most
}

const NONE: readonly BoundHook[] = []

/**
 * Returns the body of the request for a hook, in the form that it wants: a copy of the bytes, text, or the value of the JSON,
 * which all hooks share. Without a body: no bytes, no text, or undefined. Returns a refusal if the body is too long, not in
 * that form, or its caller has no share left to keep it. A hook with `on_error: skip` is left out then.
 */
export function bodyFor(x: Exchange, wanted: NonNullable<BoundHook['body']>): { value: unknown } | Refusal {
  const { max, as } = wanted
  const { body } = x
  if (body !== undefined && (body.whole === undefined || body.whole.length > max)) {
    return body.shortage === undefined ? tooLarge(max) : noRoom(body.shortage)
  }
  const whole = body?.whole ?? NOTHING
  if (as !== 'bytes' && body?.replaced === false && isEncoded(x))
    return bad('Send the body without Content-Encoding.')
  if (as === 'json' && body?.json !== undefined) return { value: body.json }
  const read = readAs(whole, as)
  if (read === undefined) return bad('The body is not valid JSON.')
  if (as === 'json' && body !== undefined) body.json = read.value
  return read
}

/**
 * Returns a body in the form that a hook wants: a copy of the bytes, text, or the value of the JSON, undefined if there is
 * no body. Returns undefined if it is not valid JSON.
 */
export function readAs(whole: Buffer, as: 'json' | 'text' | 'bytes'): { value: unknown } | undefined {
  if (as === 'bytes') return { value: Buffer.from(whole) }
  // A backend would read other bytes than the hook has seen.
  if (as === 'json' && !isUtf8(whole)) return undefined
  const text = whole.toString('utf8')
  if (as === 'text') return { value: text }
  if (text === '') return { value: undefined }
  const value = parseJson(text)
  return value === undefined ? undefined : { value }
}

const NOTHING = Buffer.alloc(0)

/** Result of a hook that was not called: it cannot have the body that it wants. */
export class Withheld {
  /** @param refusal what the request ends with if the hook denies */
  constructor(readonly refusal: Refusal) {}
}

/** Calls a hook with the request, and with its body if the hook wants that. */
export function callWithBody({ run, body }: BoundHook, { request }: HookState, x: Exchange): unknown {
  if (body === undefined) return run(request)
  const found = bodyFor(x, body)
  return 'code' in found ? new Withheld(found) : run(request, found.value)
}

/** Returns why the request cannot go on with its body: a hook that wants it cannot have it, and denies then. */
export function bodyRefusal(x: Exchange): Refusal | undefined {
  const { hooks } = x.route!
  if (hooks === undefined || x.body === undefined) return undefined
  for (const kind of BEFORE) {
    for (const { body, onError, extension } of hooks[kind] ?? NONE) {
      if (body === undefined || onError === 'skip') continue
      const found = bodyFor(x, body)
      if ('code' in found)
        return { ...found, cause: `extension ${extension}: ${found.detail ?? found.cause}` }
    }
  }
  return undefined
}

/**
 * Returns the body that a hook put in place of another one; undefined if it did not.
 *
 * @throws TypeError if it may not, or what it returned is no body
 */
export function replacementOf(body: unknown, { hook, body: wanted }: BoundHook): Buffer | undefined {
  if (body === undefined) return undefined
  if (wanted === undefined) throw new TypeError(`${hook} must declare \`body\` to replace the body`)
  if (typeof body === 'string') return Buffer.from(body, 'utf8')
  // A copy: the hook may change its own later.
  if (body instanceof Uint8Array) return Buffer.from(body)
  throw new TypeError('body must be a text or a Uint8Array')
}

/** Refuses a body for its length. */
export function tooLarge(bytes: number): Refusal {
  const detail = `The body is larger than the ${bytes} bytes that this route accepts.`
  return { code: 'payload_too_large', detail }
}

/** Refuses a body that its caller may not keep now. */
export function noRoom(shortage: Shortage): Refusal {
  const code = shortage === 'caller' ? 'share_exceeded' : 'overloaded'
  return retrySoon({ code, cause: 'no room to keep the body for an extension' })
}

function bad(detail: string): Refusal {
  return { code: 'bad_request', detail }
}

function isEncoded({ headers }: Exchange): boolean {
  const coding = joinedField(headers.forward, 'content-encoding')?.trim().toLowerCase() ?? ''
  return coding !== '' && coding !== 'identity'
}

/** Headers of a request or response that are wrong once its body is another one. */
export const UNTRUE: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-md5',
  'digest',
  'content-digest',
  'repr-digest',
])
