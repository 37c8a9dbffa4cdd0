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

export type StageOutcome = Refusal | Answer | undefined
export type Stage<O = StageOutcome> = (x: Exchange) => O | Promise<O>

/** A forwarded exchange, as the one who accepted it sees it. */
export interface UnderWay {
  /** Called once, and before all else. */
  start(): void
  /** It comes to nothing, by a fault of the gateway's own: the client gets the refusal, or sees its response cut. */
  fail(refusal: Refusal): void
  /** The response is closed: completely sent, or the client has gone. */
  closed(): void
}

/** What all requests of a gateway go through. */
export interface Way {
  readonly stages: readonly Stage[]
  /** For what has passed all of them. */
  readonly send: (x: Exchange, req: IncomingMessage, res: ServerResponse) => UnderWay
  /** After every exchange, once. Never throws. */
  readonly done: (x: Exchange) => void
  /** Told of every refusal of a stage, as it is decided. Gives what is answered. */
  readonly refusing: (x: Exchange, refusal: Refusal) => Refusal
  /** Counts and logs what was thrown. */
  readonly internal: (x: Exchange, error: unknown) => Refusal
  readonly watchdog: Watchdog
  readonly draining: () => boolean
}

/** One accepted request, from the first stage until its response is closed. */
export class Ongoing implements Accepted, Breakable, Watched {
  underWay: UnderWay | undefined
  watchSlot = -1
  #closed = false
  /** Of an answer of the gateway's own: bytes that the client has not taken, and since when it has taken none. */
  #untaken = 0
  #untakenSince = 0

  constructor(
    readonly way: Way,
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
    // A response behind another one on its connection has no socket yet, and Node does not tell it of the end.
    if (this.res.socket === null) waitBehind(socket, this.#onClose)
    if (refused === undefined) this.run(0)
    else this.refuse(refused)
  }

  /** Runs the stages from the given one on; goes on by itself when one of them has to wait. */
  run(from: number): void {
    const { stages, send } = this.way
    try {
      for (let i = from; i < stages.length; i++) {
        const answer = stages[i]!(this.x)
        if (answer === undefined) continue
        if (answer instanceof Promise) {
          answer.then(
            (outcome) => this.proceed(outcome, i + 1),
            (error) => this.broken(error),
          )
          return
        }
        this.answer(answer)
        return
      }
      this.underWay = send(this.x, this.req, this.res)
      this.underWay.start()
    } catch (error) {
      this.broken(error)
    }
  }

  proceed(outcome: StageOutcome, next: number): void {
    // The client may have left while the store was asked.
    if (this.#closed) return
    if (outcome === undefined) {
      this.run(next)
      return
    }
    try {
      this.answer(outcome)
    } catch (error) {
      this.broken(error)
    }
  }

  answer(outcome: Refusal | Answer): void {
    if ('code' in outcome) this.refuse(this.way.refusing(this.x, outcome))
    else {
      sendAnswer(this.x, this.req, this.res, outcome, this.way.draining())
      this.way.watchdog.add(this)
    }
  }

  refuse(refusal: Refusal): void {
    // Not when the response is closed: that is up to the client, which may hold it open.
    this.x.pass?.left(0, 0)
    sendRefusal(this.x, this.req, this.res, refusal, this.way.draining())
    this.way.watchdog.add(this)
  }

  /** A client that does not take what the gateway answers loses the connection; forwarded responses `forward.ts` watches. */
  check(now: number): void {
    // Behind another response it waits for that one to be taken.
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
    // Node has taken the socket from the response by now.
    const { socket } = this.req
    ended(socket, this)
    leave(socket, this.x.snapshot.config.server)
    this.way.watchdog.delete(this)
    waitNoMore(socket, this.#onClose)
  }
}
