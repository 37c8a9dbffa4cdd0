import type { ClientRequest, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { ERRORS, type Refusal } from '../../errors.js'
import type { Target } from '../../upstream/pool/choose.js'
import { outcomeOf } from '../../upstream/pool/outliers.js'
import type { AttemptOutcome } from '../../upstream/pool/transitions.js'
import type { Exchange } from '../exchange/exchange.js'
import { guarded } from '../exchange/faults.js'
import type { Watched } from '../exchange/watchdog.js'
import { type AttemptDeps, type AttemptOwner, UpstreamAttempts } from '../forward/upstream-attempts.js'
import { errorText } from '../forward/upstream-error.js'
import type { Lifecycle, StageOutcome } from '../request-lifecycle.js'
import { closeSoon, refuseSocket, retrySoon } from '../respond/client-error.js'
import { type Answer, answerSocket } from '../respond/send-response.js'
import { acceptanceFault, answerFields } from './handshake.js'
import { relayAnswer } from './relay.js'
import type { SessionRevocation } from './session-revocation.js'
import { Tunnel } from './tunnel.js'
import type { HandshakeEvents, WsProxy } from './ws-proxy.js'

export interface UpgradeDeps extends AttemptDeps {
  readonly stay: SessionRevocation
  /** Counts and logs an error that was thrown. */
  readonly internal: Lifecycle['internal']
}

/** Parts that all upgrades of a gateway share. */
export interface UpgradeContext extends UpgradeDeps {
  readonly ask: WsProxy
  /** Upgrades without an outcome so far. */
  readonly open: Set<Upgrade>
  leaving: boolean
  /** Called whenever nothing is open any more. */
  left: () => void
}

/** One upgrade, from its last stage on: a handshake with an upstream, then a tunnel to it. */
export class Upgrade implements AttemptOwner, HandshakeEvents, Watched {
  watchSlot = -1
  /** An upgrade has no body to upload, and its handshake is never sent twice. */
  readonly uploading = false
  readonly #attempts: UpstreamAttempts
  readonly #readBefore: number
  /** The upstream may have seen part of the handshake. */
  #connected = false
  #request: ClientRequest | undefined
  /** `performance.now()` after the stages. */
  #began = 0
  /** When a drain cuts it. */
  #cutAt = Number.POSITIVE_INFINITY
  #tunnel: Tunnel | undefined
  /** The outcome of the attempt, by the upstream's response, if there was one. */
  #answer: AttemptOutcome = 'unknown'
  #over = false

  constructor(
    private readonly gateway: UpgradeContext,
    private readonly x: Exchange,
    private readonly req: IncomingMessage,
    private readonly socket: Socket,
    private readonly head: Buffer,
    private readonly ended: (x: Exchange) => void,
  ) {
    this.#attempts = new UpstreamAttempts(gateway, x, this, true)
    this.#readBefore = socket.bytesRead - head.length
    gateway.open.add(this)
    // Node has removed its own listeners: without one, a reset would end the process.
    socket.on('error', this.#onError)
    socket.on('end', this.#onGone)
    socket.on('close', this.#onGone)
  }

  /** Runs a step that a socket, a promise or a timer calls. If it throws, only this exchange ends. */
  attempt(step: () => void): void {
    guarded(this, step)
  }

  broken(error: unknown): void {
    const refusal = this.gateway.internal(this.x, error)
    if (this.#over) return
    const x = this.x
    try {
      if (x.status === 0) {
        this.refuse(refusal)
        return
      }
      x.error ??= refusal.code
      x.cause ??= refusal.cause
      if (this.#tunnel !== undefined) {
        this.#tunnel.cut()
        return
      }
    } catch (again) {
      this.gateway.internal(x, again)
    }
    this.socket.destroy()
    this.#finish()
  }

  /** Continues after the stages: contacts the upstream, or refuses. Does nothing once the client has left. */
  proceed(outcome: StageOutcome): void {
    this.attempt(() => {
      if (this.#over) return
      if (outcome !== undefined) {
        if ('code' in outcome) this.refuse(outcome)
        else this.#respond(outcome)
      } else if (this.gateway.leaving) this.refuse({ code: 'draining' })
      else {
        this.#began = performance.now()
        this.x.guard!.budget.request(this.gateway.watchdog.now())
        this.gateway.watchdog.add(this)
        this.#attempts.next(undefined)
      }
    })
  }

  #respond(answer: Answer): void {
    answerSocket(this.socket, this.x, answer)
    this.#finish()
  }

  send(target: Target): void {
    const { path, fields } = this.#attempts.begin(target, this.req)
    try {
      this.#request = this.gateway.ask(target.upstream, path, fields, this.socket, this)
    } catch (error) {
      // Node found something in the header that it does not send.
      this.refuse({ code: 'internal', cause: errorText(error as Error) })
    }
  }

  mayResend(): boolean {
    return false
  }

  connected(): void {
    this.#connected = true
  }

  failed(error: Error): void {
    this.attempt(() => {
      if (!this.#over) this.#attempts.failed(error, this.#connected)
    })
  }

  answered(answer: IncomingMessage): void {
    this.attempt(() => this.#answered(answer))
  }

  #answered(answer: IncomingMessage): void {
    if (this.#over) {
      answer.destroy()
      return
    }
    this.#attempts.answered(answer.statusCode!, null)
    this.#answer = outcomeOf(answer.statusCode!)
    // Node treats a 101 that names no protocol as an ordinary response.
    const fields =
      answer.statusCode === 101 ? 'the 101 names no protocol in Upgrade' : answerFields(this.x, answer)
    if (typeof fields === 'string') {
      this.refuse(badResponse(fields))
      return
    }
    this.socket.off('end', this.#onGone)
    relayAnswer(this.x, answer, fields, this.socket, (error) =>
      this.attempt(() => {
        if (error !== undefined && !this.#over) {
          // Node's error for a response that was cut has a code but no system call. An error of the client's socket has
          // both.
          this.x.error = isCutAnswer(error) ? 'upstream_cut' : 'client_closed'
          this.x.cause = errorText(error)
        }
        this.#finish()
        closeSoon(this.socket)
      }),
    )
  }

  switched(answer: IncomingMessage, upstream: Socket, join: (fields: readonly string[]) => void): void {
    try {
      this.#switched(answer, upstream, join)
    } catch (error) {
      upstream.destroy()
      this.broken(error)
    }
  }

  #switched(answer: IncomingMessage, upstream: Socket, join: (fields: readonly string[]) => void): void {
    if (this.#over) {
      upstream.destroy()
      return
    }
    const x = this.x
    this.#attempts.answered(101, null)
    this.#answer = 'well'
    const fields = answerFields(x, answer)
    const objection = this.#objection(answer)
    if (objection !== undefined || typeof fields === 'string') {
      upstream.destroy()
      this.refuse(objection ?? badResponse(fields as string))
      return
    }
    this.gateway.watchdog.delete(this)
    this.socket.off('end', this.#onGone)
    this.socket.off('close', this.#onGone)
    if (this.head.length > 0) upstream.write(this.head)
    x.status = 101
    join(fields)
    const { watchdog, stay } = this.gateway
    this.#tunnel = new Tunnel(
      x,
      this.socket,
      upstream,
      watchdog,
      this.#readBefore,
      {
        ended: () => this.#finish(),
        mayStay: () => this.turnAway(),
        broken: (error) => this.broken(error),
      },
      stay.now,
    )
    this.#tunnel.askAgainAt = stay.askAgainAt(x)
  }

  #objection(answer: IncomingMessage): Refusal | undefined {
    if (this.gateway.leaving) return { code: 'draining' }
    const fault = acceptanceFault(this.x, answer)
    return fault === undefined ? undefined : badResponse(fault)
  }

  check(now: number): void {
    const { connect } = this.x.route!.timeouts
    const { handshake } = this.x.route!.websocket
    if (now > this.#cutAt) {
      this.#expire({ code: 'draining', cause: 'the gateway is shutting down' })
    } else if (now - this.#began > handshake) {
      this.#expire({
        code: 'upstream_timeout',
        cause: `the handshake was not complete within ${handshake} ms`,
      })
    } else if (this.#attempts.busy && !this.#connected && now - this.#attempts.dispatched > connect) {
      const error = new Error(`no connection within ${connect} ms`)
      this.#request!.destroy(Object.assign(error, { code: 'ETIMEDOUT' }))
    }
  }

  #expire(refusal: Refusal): void {
    if (this.x.status === 0) {
      this.refuse(refusal)
      return
    }
    // The upstream's refusal is half relayed: the client has to see that it is cut.
    this.x.error = ERRORS[refusal.code].source === 'upstream' ? 'upstream_cut' : refusal.code
    this.x.cause = refusal.cause
    this.#gone()
  }

  turnAway(): void {
    const { stay } = this.gateway
    const objection = stay.objection(this.x)
    if (objection === undefined) {
      if (this.#tunnel !== undefined) this.#tunnel.askAgainAt = stay.askAgainAt(this.x)
      return
    }
    const { cause, reason } = objection
    if (this.#tunnel !== undefined) this.#tunnel.leave('forbidden', cause, 0, reason)
    else if (!this.#over && this.x.status === 0) this.refuse({ code: 'forbidden', cause })
  }

  /** Drains. A handshake that is under way gets its response when the upstream has sent its own. */
  leave(): void {
    const { shutdown_grace } = this.x.snapshot.config.server
    this.#cutAt = performance.now() + shutdown_grace
    this.#tunnel?.leave('draining', 'the gateway is shutting down', shutdown_grace)
  }

  #onError = (error: Error): void => {
    if (!this.#over && this.#tunnel === undefined) this.x.cause = errorText(error)
  }

  #onGone = (): void => {
    this.attempt(() => this.#gone())
  }

  #gone(): void {
    if (this.#over) return
    this.x.error ??= 'client_closed'
    if (this.x.status === 0) this.x.status = 499
    this.#attempts.giveUp('client_closed')
    this.socket.destroy()
    this.#finish()
  }

  refuse(refusal: Refusal): void {
    const { code, cause } = refusal
    this.#attempts.giveUp(code, cause)
    if (ERRORS[code].source === 'upstream') this.#attempts.settle('failed', cause)
    refuseSocket(this.socket, this.x, retrySoon(refusal), true)
    this.#finish()
  }

  #finish(): void {
    if (this.#over) return
    this.#over = true
    const { watchdog, open } = this.gateway
    this.attempt(() => this.#attempts.settle(this.#answer))
    this.#request?.destroy()
    watchdog.delete(this)
    open.delete(this)
    this.ended(this.x)
    if (open.size === 0) this.gateway.left()
  }
}

function badResponse(cause: string): Refusal {
  return { code: 'upstream_bad_response', cause }
}

function isCutAnswer(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ECONNRESET' && error.syscall === undefined
}
