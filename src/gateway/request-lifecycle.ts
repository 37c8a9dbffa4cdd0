import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Refusal } from '../errors.js'
import type { Exchange } from './exchange/exchange.js'
import { type Breakable, own } from './exchange/faults.js'
import type { Watchdog, Watched } from './exchange/watchdog.js'
import { type Accepted, began, ended } from './listen/connection.js'
import { enter, leave, waitBehind, waitNoMore } from './listen/pipeline.js'
import { breakOff, endGently } from './respond/client-error.js'
import { sendRefusal } from './respond/send-error.js'
import { type Answer, sendAnswer } from './respond/send-response.js'

/** Result of a stage: undefined, or what the request ends with. */
export type StageOutcome = Refusal | Answer | undefined

/** Returned by a stage that will continue the exchange through its `Later`. */
export const WAITING = Symbol('waiting')

/** Continues an exchange after a stage that returned WAITING, by one call of one of these. Neither throws. */
export interface Later<O = StageOutcome> {
  proceed(outcome: O): void
  /** Ends the exchange, and nothing else, after an error. */
  broken(error: unknown): void
  /** Request and response of the exchange, for a stage that reads the body. Left out: there is no body, or nobody may read it. */
  readonly req?: IncomingMessage
  readonly res?: ServerResponse
}

/** One step of a request. If it has to wait, it returns a promise, or WAITING, which costs less. */
export type Stage<O = StageOutcome> = (x: Exchange, later: Later<O>) => O | Promise<O> | typeof WAITING

/** Returns the outcome of a stage as a promise. */
export function outcomeOf<O>(stage: Stage<O>, x: Exchange): Promise<O> {
  return new Promise((resolve, reject) => {
    const outcome = stage(x, { proceed: resolve, broken: reject })
    if (outcome !== WAITING) resolve(outcome)
  })
}

/** A forwarded exchange, as the code that accepted it sees it. */
export interface ForwardedExchange {
  /** Called once, before anything else. */
  start(): void
  /** Ends the exchange after a fault of the gateway: the client gets the refusal, or sees its response cut. */
  fail(refusal: Refusal): void
  /** Called when the response is closed: completely sent, or the client has gone. */
  closed(): void
}

/** The steps that all requests of a gateway go through. */
export interface Lifecycle {
  readonly stages: readonly Stage[]
  /** Sends an exchange that has passed all stages. */
  readonly send: (x: Exchange, req: IncomingMessage, res: ServerResponse) => ForwardedExchange
  /** Called after every exchange, once. Never throws. */
  readonly done: (x: Exchange) => void
  /** Called with everything that a request ends with, when it is decided. Returns what to send. */
  readonly ending: <E extends Refusal | Answer>(x: Exchange, ending: E) => E | Refusal
  /** Counts and logs an error that was thrown. */
  readonly internal: (x: Exchange, error: unknown) => Refusal
  readonly watchdog: Watchdog
  readonly draining: () => boolean
}

/** One accepted request, from the first stage until its response is closed. */
export class RequestLifecycle implements Accepted, Breakable, Later, Watched {
  underWay: ForwardedExchange | undefined
  watchSlot = -1
  #closed = false
  /** Index of the next stage. */
  #next = 0
  /** For a response of the gateway's own: bytes that the client has not taken, and since when it has taken none. */
  #untaken = 0
  #untakenSince = 0

  constructor(
    readonly way: Lifecycle,
    readonly x: Exchange,
    readonly req: IncomingMessage,
    readonly res: ServerResponse,
  ) {}

  begin(refused: Refusal | undefined): void {
    const { socket } = this.req
    own(this.res, this)
    began(socket, this)
    if (enter(socket, this.x.snapshot.config.server)) {
      this.res.shouldKeepAlive = false
      endGently(socket)
    }
    this.res.on('close', this.#onClose)
    // A response behind another one on its connection has no socket yet, and Node does not tell it when the connection
    // ends.
    if (this.res.socket === null) waitBehind(socket, this.#onClose)
    if (refused === undefined) this.#run()
    else this.refuse(refused)
  }

  /** Runs the stages that are left. One that has to wait calls `proceed`. */
  #run(): void {
    const { stages, send } = this.way
    try {
      while (this.#next < stages.length) {
        const outcome = stages[this.#next++]!(this.x, this)
        if (outcome === undefined) continue
        if (outcome === WAITING) return
        if (outcome instanceof Promise) {
          outcome.then(
            (later) => this.proceed(later),
            (error) => this.broken(error),
          )
          return
        }
        this.answer(outcome)
        return
      }
      this.underWay = send(this.x, this.req, this.res)
      this.underWay.start()
    } catch (error) {
      this.broken(error)
    }
  }

  proceed(outcome: StageOutcome): void {
    // The client may have left while the gateway waited for the store.
    if (this.#closed) return
    if (outcome === undefined) {
      this.#run()
      return
    }
    try {
      this.answer(outcome)
    } catch (error) {
      this.broken(error)
    }
  }

  answer(outcome: Refusal | Answer): void {
    const ending = this.way.ending(this.x, outcome)
    if ('code' in ending) this.refuse(ending)
    else {
      this.x.body?.release()
      sendAnswer(this.x, this.req, this.res, ending, this.way.draining())
      this.way.watchdog.add(this)
    }
  }

  refuse(refusal: Refusal): void {
    // Released now, not when the response is closed: the client decides when that happens, and may hold it open.
    this.x.pass?.left(0, 0)
    this.x.body?.release()
    sendRefusal(this.x, this.req, this.res, refusal, this.way.draining())
    this.way.watchdog.add(this)
  }

  /** Drops a client that does not take the gateway's own response. `forward.ts` watches forwarded ones. */
  check(now: number): void {
    // Behind another response, it waits until the client has taken that one.
    const untaken = this.res.socket?.writableLength ?? 0
    if (untaken === 0 || untaken !== this.#untaken) {
      this.#untaken = untaken
      this.#untakenSince = now
    } else if (now - this.#untakenSince > this.x.snapshot.config.server.slow_read) this.res.destroy()
  }

  broken(error: unknown): void {
    const refusal = this.way.internal(this.x, error)
    if (this.#closed) return
    try {
      if (this.underWay !== undefined) this.underWay.fail(refusal)
      else if (!this.res.headersSent) this.refuse(refusal)
      else this.#breakOff(refusal)
    } catch (again) {
      this.way.internal(this.x, again)
      this.#breakOff(refusal)
    }
  }

  #breakOff({ code, cause }: Refusal): void {
    this.x.error ??= code
    this.x.cause ??= cause
    breakOff(this.res)
  }

  #onClose = (): void => {
    if (this.#closed) return
    this.#closed = true
    try {
      this.#letGo()
    } catch (error) {
      this.way.internal(this.x, error)
    }
    try {
      this.underWay?.closed()
    } catch (error) {
      this.way.internal(this.x, error)
    }
    if (this.x.status === 0) {
      this.x.status = 499
      this.x.error = 'client_closed'
    }
    this.way.done(this.x)
  }

  #letGo(): void {
    // By now Node has taken the socket from the response.
    const { socket } = this.req
    ended(socket, this)
    leave(socket, this.x.snapshot.config.server)
    this.way.watchdog.delete(this)
    waitNoMore(socket, this.#onClose)
  }
}
