import type { Refusal } from '../../errors.js'
import type { ExtensionResponse } from '../../extension/define.js'
import { NOT_YOURS } from '../../extension/respond.js'
import type { BoundHook } from '../../extension/route-hooks.js'
import { give, type Share, type Shares, take } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'
import type { Breakable } from '../exchange/faults.js'
import { joinedField } from '../exchange/header-list.js'
import { type HookState, withChange } from '../exchange/hook-state.js'
import { readAs, replacementOf, UNTRUE } from '../extensions/hook-body.js'
import { changeOf, membersOf } from '../extensions/results.js'
import type { HookKind, HookRunner } from '../extensions/runner.js'
import { callerOf } from '../identify/caller.js'
import { type StageOutcome, WAITING } from '../request-lifecycle.js'
import type { Trailers } from './attempt.js'
import { ALL_BYTES } from './read-pace.js'
import { hasNoBody } from './upstream-response.js'

/** Overhead per piece, in bytes: many small pieces would cost more than their bytes. */
const PIECE_BYTES = 128

/** Further headers that are wrong once the body is another one: it has no parts and no version that the upstream knows. */
const OF_BODY: ReadonlySet<string> = new Set([...UNTRUE, 'accept-ranges', 'content-length', 'etag'])

export interface HookedEvents extends Breakable {
  /** Hooks have finished: the response goes to the client with this header. The other calls follow. */
  begin(status: number, head: string[]): void
  /** @returns false when the next piece should wait */
  data(piece: Buffer): boolean
  end(trailers: Trailers): void
  /** Asks the upstream for more. */
  resume(): void
  /** A hook failed or could not have the body, and denies. */
  refuse(refusal: Refusal): void
}

/**
 * Runs `onResponse`, and holds the response until these hooks have finished. If one of them wants the body, the whole of it
 * is kept first, charged to the caller's share of `response_buffers`.
 */
export class HookedResponse implements HookKind {
  readonly idle = 'changed nothing'
  readonly done = 'changed the response'
  /** Waits for the body; hooks run next. */
  collecting = false
  readonly #share: Share
  readonly #caller: string | undefined
  #pieces: Buffer[] = []
  /** Bytes of the body, and bytes taken of the share. */
  #size = 0
  #held = 0
  /** Set once the response is complete. */
  #trailers: Trailers | undefined
  /** Body, if hooks can have it. */
  #whole: Buffer | undefined
  /** Why hooks cannot have it. */
  #lack: string | undefined
  #replaced = false
  /** The upstream waits for the hooks. */
  #waits = false
  #over = false

  constructor(
    shares: Shares,
    private readonly run: HookRunner,
    private readonly x: Exchange,
    private readonly hooks: readonly BoundHook[],
    private status: number,
    private head: string[],
    private readonly events: HookedEvents,
  ) {
    this.#share = shares.open('response_buffers', ALL_BYTES)
    this.#caller = callerOf(x, shares)
  }

  start(): void {
    const most = mostOf(this.hooks)
    if (most > 0 && this.#hasBody) {
      this.#lack = unreadable(this.status, this.head, most)
      this.collecting = this.#lack === undefined
    }
    if (!this.collecting) this.#run()
  }

  get #hasBody(): boolean {
    return this.x.method !== 'HEAD' && !hasNoBody(this.status)
  }

  /**
   * Takes a piece of the body.
   *
   * @returns false when the next piece should wait
   */
  data(piece: Buffer): boolean {
    this.#pieces.push(piece)
    if (!this.collecting) {
      this.#waits = true
      return false
    }
    this.#size += piece.length
    const bytes = piece.length + PIECE_BYTES
    const most = mostOf(this.hooks)
    if (this.#size > most) this.#lack = tooLong(most)
    else if (take(this.#share, this.#caller, bytes) !== undefined) this.#lack = 'no room to keep the response'
    else {
      this.#held += bytes
      return true
    }
    // It goes on as it comes, unless a hook denies that.
    return this.#run()
  }

  end(trailers: Trailers): void {
    this.#trailers = trailers
    if (!this.collecting) return
    this.#whole = Buffer.concat(this.#pieces)
    this.#run()
  }

  /** Stops: nobody waits for the response any more. */
  release(): void {
    this.#over = true
    this.#pieces = []
    this.#whole = undefined
    if (this.#held > 0) give(this.#share, this.#caller, this.#held)
    this.#held = 0
  }

  /** @returns false when the next piece should wait */
  #run(): boolean {
    this.collecting = false
    const outcome = this.run(this.x, this.hooks, this, {
      proceed: (late) => {
        if (!this.#over) this.#finish(late, true)
      },
      broken: (error) => this.events.broken(error),
    })
    if (outcome !== WAITING) return this.#finish(outcome, false)
    this.#waits = true
    return false
  }

  // HookKind

  call({ run, body: wanted }: BoundHook, { request }: HookState): unknown {
    const response = new ResponseView(this.status, this.head)
    if (wanted === undefined) return run(request, response)
    if (this.#lack !== undefined) throw new Error(this.#lack)
    if (this.#whole === undefined) return run(request, response, undefined)
    if (this.#whole.length > wanted.max) throw new Error(tooLong(wanted.max))
    const found = readAs(this.#whole, wanted.as)
    if (found === undefined) throw new Error('the response is not valid JSON')
    return run(request, response, found.value)
  }

  take(result: unknown, _: HookState, __: Exchange, hook: BoundHook): undefined {
    if (result === undefined) return
    const { headers, status = this.status, body } = membersOf(result, 'onResponse')
    if (!Number.isInteger(status) || (status as number) < 200 || (status as number) > 599)
      throw new TypeError('status must be a whole number from 200 to 599')
    if (hasNoBody(status as number) !== hasNoBody(this.status))
      throw new TypeError(`status ${status} cannot stand in for ${this.status}: one of them has no body`)
    const change = changeOf(headers, (name) => NOT_YOURS.has(name))
    const replacement = replacementOf(body, hook)
    this.status = status as number
    if (replacement !== undefined) {
      this.#whole = replacement
      this.#replaced = true
      this.head = withChange(this.head, { drop: OF_BODY, put: [] })
    }
    if (change !== undefined) this.head = withChange(this.head, change)
  }

  /**
   * Sends on what was held.
   *
   * @param late the hooks had to be waited for
   * @returns false when the next piece should wait
   */
  #finish(outcome: StageOutcome, late: boolean): boolean {
    const { events } = this
    const pieces = this.#replaced && this.#hasBody ? [this.#whole!] : this.#pieces
    this.release()
    if (outcome !== undefined) {
      events.refuse(outcome as Refusal)
      return true
    }
    if (this.#replaced && this.#hasBody) this.head.push('Content-Length', String(pieces[0]!.length))
    events.begin(this.status, this.head)
    let more = true
    for (const piece of pieces) if (piece.length > 0) more = events.data(piece)
    if (this.#trailers !== undefined) events.end(this.#trailersLeft(this.#trailers))
    else if (late && this.#waits && more) events.resume()
    return more
  }

  #trailersLeft(trailers: Trailers): Trailers {
    return trailers && this.#replaced ? withChange(trailers, { drop: OF_BODY, put: [] }) : trailers
  }
}

/** Response as hooks see it. */
class ResponseView implements ExtensionResponse {
  readonly status: number
  readonly #head: readonly string[]

  constructor(status: number, head: readonly string[]) {
    this.status = status
    this.#head = head
    Object.freeze(this)
  }

  header(name: string): string | undefined {
    return joinedField(this.#head, String(name).toLowerCase())
  }
}
Object.freeze(ResponseView.prototype)

/** Returns the longest body that a hook takes, in bytes; 0 if none wants it. */
function mostOf(hooks: readonly BoundHook[]): number {
  let most = 0
  for (const { body } of hooks) most = Math.max(most, body?.max ?? 0)
  return most
}

/** Returns why hooks cannot have the body, as far as the header tells. */
function unreadable(status: number, head: readonly string[], most: number): string | undefined {
  const length = Number(joinedField(head, 'content-length') ?? 0)
  if (length > most) return tooLong(most)
  // The request asked for the whole, and for it as it is.
  if (status === 206) return 'the upstream sent a part of the response'
  const coding = joinedField(head, 'content-encoding')?.toLowerCase() ?? 'identity'
  return coding === 'identity' ? undefined : `the response is encoded: ${coding.slice(0, 40)}`
}

function tooLong(most: number): string {
  return `the response is longer than ${most} bytes`
}
