import type { IncomingMessage } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Service } from '../../config/snapshot/snapshot.js'
import { ERRORS, type ErrorCode, type Refusal } from '../../errors.js'
import { give, type Holding, type Shares } from '../../shares.js'
import type { Asking, NoTarget, Target } from '../../upstream/pool/choose.js'
import type { Upstreams } from '../../upstream/pool/pool.js'
import type { AttemptOutcome } from '../../upstream/pool/transitions.js'
import type { Sender } from '../../upstream/sender.js'
import type { Exchange } from '../exchange/exchange.js'
import { type Breakable, guarded } from '../exchange/faults.js'
import { answerCall, beginCall, endCall, failCall } from '../exchange/trace.js'
import type { Watchdog } from '../exchange/watchdog.js'
import { callerOf } from '../identify/caller.js'
import { hashKeyOf } from './hash-key.js'
import { errorText, isConnectError, upstreamErrorCode, wasRefusedForGood } from './upstream-error.js'
import { upstreamHeaders, upstreamPath } from './upstream-request.js'

export interface AttemptDeps {
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  readonly shares: Shares
}

/** An attempt that is under way. */
export interface BegunAttempt {
  readonly target: Target
  readonly sender: Sender
  readonly place: Holding | undefined
  /** `performance.now()` at which it began. */
  readonly dispatched: number
}

/** Sends what `UpstreamAttempts` has found an upstream for. */
export interface AttemptOwner extends Breakable {
  /** Sends to this upstream. */
  send(target: Target): void
  /** Ends the exchange: no attempt has succeeded, and none follows. */
  refuse(refusal: Refusal): void
  /** Returns whether the request may be sent again although an upstream may have seen it. */
  mayResend(): boolean
  /** True while the client is still sending the request. */
  readonly uploading: boolean
}

/**
 * Makes the attempts of one exchange at the upstreams of its service. It chooses the upstream, waits for a place there,
 * decides about retries, and reports each outcome to the pool, the guard and the trace. Forwarding and upgrading share it.
 */
export class UpstreamAttempts implements Asking {
  /** Upstream of the latest attempt. */
  target: Target | undefined
  /** Sender of the latest attempt; undefined for a tunnel. */
  sender: Sender | undefined
  place: Holding | undefined
  /** An upstream is busy with the latest attempt. */
  busy = false
  /** `performance.now()` at the latest attempt. */
  dispatched = 0
  /** `performance.now()` from which the upstream has had the whole request to answer; 0: no upstream has it. */
  waitingSince = 0
  /** How often the request was sent again after an upstream may have seen it. */
  resends = 0
  /** `performance.now()` at the first attempt. */
  #began = 0
  #tried: Target[] | undefined
  /** Tried upstreams to which no connection could be made. */
  #unreachable: Target[] | undefined
  /** Removes the request from the queue for an upstream; set while it waits there. */
  #leaveQueue: (() => void) | undefined
  /** A retry is under way and has no response yet. */
  #retrying = false

  /** @param tunnel the exchange becomes a tunnel, which takes no connection of the pool and never waits for one */
  constructor(
    private readonly deps: AttemptDeps,
    private readonly x: Exchange,
    private readonly owner: AttemptOwner,
    private readonly tunnel: boolean,
  ) {}

  /** Returns the caller whose share of the connections this counts against. */
  get caller(): string | undefined {
    return callerOf(this.x, this.deps.shares)
  }

  /** Returns whether the exchange waits for its turn at an upstream. */
  get queued(): boolean {
    return this.#leaveQueue !== undefined
  }

  /**
   * Hands the exchange to the next upstream, or queues it.
   *
   * @param failure why the latest attempt failed; the client gets it if there is no further upstream
   */
  next(failure: Refusal | undefined): void {
    const { service } = this.x.route!
    const key = hashKeyOf(this.x, service)
    this.follow(this.#pick(service, key, this.#tried), key, failure)
  }

  /**
   * Hands the exchange to an upstream that was picked, or queues it.
   *
   * @param found what the pool said
   */
  follow(found: Target | NoTarget, key: string | undefined, failure: Refusal | undefined): void {
    const { service } = this.x.route!
    let target = found
    // Another one first: an upstream that broke off may do so again. One that could not be reached is not tried twice.
    if (target === 'tried' && this.resends > 0) target = this.#pick(service, key, this.#unreachable)
    if (typeof target !== 'string') this.owner.send(target)
    else if (target === 'busy') this.#wait(service, key)
    else this.owner.refuse(failure ?? { code: 'no_upstream' })
  }

  #pick(service: Service, key: string | undefined, tried: readonly Target[] | undefined) {
    const { upstreams } = this.deps
    if (this.tunnel) return upstreams.pickForTunnel(service, key, tried)
    return upstreams.pick(service, key, tried, this)
  }

  #wait(service: Service, key: string | undefined): void {
    this.waitingSince = 0
    const turn = (step: () => void): void => {
      this.#leaveQueue = undefined
      guarded(this.owner, step)
    }
    this.#leaveQueue = this.deps.upstreams.wait({
      service,
      key,
      tried: this.resends > 0 ? this.#unreachable : this.#tried,
      asking: this,
      proceed: (target) => turn(() => this.owner.send(target)),
      waitedTooLong: () => turn(() => this.#noRoom(`no upstream was free within ${service.maxWait} ms`)),
    })
    if (this.#leaveQueue === undefined)
      this.#noRoom(`${service.maxWaiting} requests already wait for an upstream`)
  }

  #noRoom(cause: string): void {
    this.owner.refuse({ code: 'overloaded', cause })
  }

  /** Begins an attempt. Every `begin` needs its `settle` or `abandon`. Returns path and header for the upstream. */
  begin(target: Target, req: IncomingMessage): { path: string; fields: string[] } {
    const { x, deps } = this
    const { upstream } = target
    const fields = upstreamHeaders(x, x.route!.service, upstream, req)
    const path = upstreamPath(x, upstream)
    beginCall(x, upstream, path, fields)
    this.target = target
    x.upstream = upstream
    this.dispatched = performance.now()
    this.waitingSince = this.dispatched
    if (this.#began === 0) this.#began = this.dispatched
    if (this.tunnel) deps.upstreams.tunnelBegun(target)
    else this.sender = deps.upstreams.begun(target, this)
    this.busy = true
    return { path, fields }
  }

  /** Goes on with an attempt that `PlainForwarding` has begun. */
  adopt({ target, sender, place, dispatched }: BegunAttempt): void {
    this.target = target
    this.sender = sender
    this.place = place
    this.busy = true
    this.dispatched = dispatched
    this.waitingSince = dispatched
    this.#began = dispatched
  }

  /** Gives a place back that the exchange no longer needs: it goes to the next request. */
  decline(target: Target): void {
    this.deps.upstreams.begun(target)
    this.deps.upstreams.ended(target, 'unknown')
  }

  /**
   * Records the header of the upstream's response.
   *
   * @param fields name, value, …; null: nothing in it concerns the trace
   */
  answered(status: number, fields: readonly string[] | null): void {
    const { guard, pass } = this.x
    answerCall(this.x, status, fields)
    this.deps.upstreams.answered(this.target!)
    if (this.#retrying) {
      this.#retrying = false
      guard!.succeeded++
    }
    if (pass === undefined) return
    const now = performance.now()
    pass.answered(status, this.#waited(now), now)
  }

  /**
   * Handles an attempt that failed before there was a response: tries again, or refuses.
   *
   * @param connected there was a connection, so the upstream may have seen the request
   */
  failed(error: Error, connected: boolean): void {
    const failure = failureOf(error, connected)
    const { code, cause } = failure
    const ours = code === 'overloaded' || code === 'internal'
    failCall(this.x, code, cause)
    if (!connected && !ours) {
      this.settle('unreachable', cause)
      this.elsewhere(failure)
    } else if (
      connected &&
      upstreamErrorCode(error) === 'upstream_failed' &&
      !wasRefusedForGood(error) &&
      this.owner.mayResend()
    )
      this.#resend(failure)
    else {
      this.settle(ours ? 'unknown' : 'failed', cause)
      this.owner.refuse(failure)
    }
  }

  /**
   * Gives up on a connection that took too long. The pool notices that nobody waits for it when it has one, or fails to get
   * one: only then the attempt ends there. Call `elsewhere` next.
   */
  abandon({ code, cause = '' }: Refusal): void {
    this.deps.upstreams.unreachable(this.target!, cause)
    failCall(this.x, code, cause)
    this.#leave()
  }

  /** Ends the latest attempt, unless it has ended already, and reports its outcome to the pool and the trace. */
  settle(outcome: AttemptOutcome, why = ''): void {
    if (!this.busy) return
    this.#leave()
    const { upstreams } = this.deps
    if (this.tunnel) upstreams.tunnelEnded(this.target!, outcome, why)
    else upstreams.ended(this.target!, outcome, why)
  }

  #leave(): void {
    this.busy = false
    this.x.upstreamMs = performance.now() - this.#began
    endCall(this.x)
    const { place } = this
    if (place === undefined) return
    this.place = undefined
    give(place.share, place.caller)
  }

  /** Makes no further attempt. Reports the outcome of the exchange to the guard of its service. */
  giveUp(code: ErrorCode, cause = ''): void {
    const { guard, pass } = this.x
    failCall(this.x, code, cause)
    if (this.#retrying && code !== 'client_closed') {
      this.#retrying = false
      guard!.failed++
    }
    this.#leaveQueue?.()
    if (this.waitingSince > 0) this.x.upstreamMs = performance.now() - this.#began
    if (pass === undefined) return
    const now = performance.now()
    const waited = this.#waited(now) ?? 0
    if (ERRORS[code].source !== 'upstream') pass.left(waited, now)
    else pass.failed(code === 'upstream_timeout' || code === 'upstream_connect_timeout', waited, now)
  }

  /** Returns for how many ms the upstream has had the whole request; undefined while more is to come, or no upstream has it. */
  #waited(now: number): number | undefined {
    return this.waitingSince > 0 && !this.owner.uploading ? now - this.waitingSince : undefined
  }

  /** Tries another upstream. Nothing was sent, so any request may go to each upstream once. */
  elsewhere(failure: Refusal): void {
    this.#unreachable ??= []
    this.#unreachable.push(this.target!)
    const left = (this.#tried?.length ?? 0) + 1 < this.x.route!.service.upstreams.length
    this.#retry(failure, left && this.#withinBudget())
  }

  /** Sends an idempotent request again. */
  #resend(failure: Refusal): void {
    this.resends++
    const again = this.#withinBudget()
    // Most likely the upstream closed an idle connection, which says nothing about its health. But one that breaks so many
    // connections that the retry budget is spent is unhealthy.
    this.settle(again ? 'unknown' : 'failed', failure.cause)
    this.#retry(failure, again)
  }

  #withinBudget(): boolean {
    const { guard, route } = this.x
    return guard!.mayRetry(route!.service, this.deps.watchdog.now())
  }

  #retry(failure: Refusal, again: boolean): void {
    this.#tried ??= []
    this.#tried.push(this.target!)
    if (again) {
      this.#retrying = true
      this.next(failure)
    } else this.owner.refuse(failure)
  }
}

/** Returns what the client and the log are told about a failed attempt. */
export function failureOf(error: Error, connected: boolean): { code: ErrorCode; cause: string } {
  const code = upstreamErrorCode(error)
  // On a connection that was made, such a code means that the connection broke.
  return {
    code: connected && isConnectError(code) ? 'upstream_failed' : code,
    cause: errorText(error),
  }
}
