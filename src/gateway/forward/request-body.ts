import type { IncomingMessage } from 'node:http'
import type { BodyDigest } from '../../credentials/body-digest.js'
import type { BodySink, BodySource } from '../../upstream/sender.js'
import type { Breakable } from '../exchange/faults.js'
import type { Replay } from './body-buffer.js'

export interface BodyEvents extends Breakable {
  /** Called with every chunk's size. Returns false when the body has become too large. */
  received(bytes: number): boolean
  /** Before the first byte is read: the time to say 100 Continue. */
  begin(): void
  /** The client has sent all of it. */
  ended(): void
  /** While it is gathered: so many bytes are kept. Returns false when no more should be read for now. */
  kept(bytes: number): boolean
  /** What was kept has gone on. */
  emptied(): void
  /** It is not the body that was signed. Its end goes nowhere. */
  forged(): void
}

/** Longest body that is sent as one piece. */
const WHOLE_BYTES = 16_384

/** The request's body on its way upstream: its bytes are counted as they pass, and kept where they may be sent again. */
export class RequestBody implements BodySource {
  /** Nothing more will come of it. */
  ended = false
  /** The upstream has asked for more than the client has sent. */
  waitingForClient = false
  readonly #request: IncomingMessage
  readonly #events: BodyEvents
  readonly #replay: Replay | undefined
  readonly #digest: BodyDigest | undefined
  #sink: BodySink | undefined
  /** The latest piece, where the body may turn out to be another one than was signed: its end is kept back until that is known. */
  #held: Buffer | undefined
  /** What is gathered before there is a sink. */
  #kept: Buffer[] | undefined

  /**
   * @param replay keeps what comes, where it may have to be sent again
   * @param digest what it has to be the body of, where that was signed
   */
  constructor(
    request: IncomingMessage,
    events: BodyEvents,
    replay: Replay | undefined,
    digest: BodyDigest | undefined,
  ) {
    this.#request = request
    this.#events = events
    this.#replay = replay
    this.#digest = digest
  }

  /**
   * All of it, where it is short and has come by now, usually in one packet with its header: sent as one piece it costs
   * a fifth of what a stream does. Nothing else comes of it then.
   */
  takeWhole(length: number): Buffer | undefined {
    const request = this.#request
    if (this.#sink !== undefined || this.#kept !== undefined || length < 0 || length > WHOLE_BYTES) return
    if (!request.complete || request.readableLength !== length) return
    const whole = request.read() as Buffer | null
    if (whole === null || !this.#events.received(whole.length)) return
    this.ended = true
    this.#digest?.add(whole)
    if (this.#digest?.holds() === false) {
      this.#events.forged()
      return
    }
    this.#replay?.add(whole)
    this.#replay?.end()
    this.#events.ended()
    return whole
  }

  /** Whether nothing more has to come in. */
  get isHere(): boolean {
    return this.#request.complete
  }

  /** Reads it before it has a sink. */
  gather(): void {
    this.#kept = []
    this.waitingForClient = true
    this.#listen()
  }

  start(sink: BodySink): void {
    const again = this.#sink !== undefined
    this.#sink = sink
    const kept = this.#kept
    if (kept !== undefined) {
      this.#kept = undefined
      this.#giveKept(kept, sink)
      return
    }
    this.waitingForClient = true
    if (again) {
      this.#request.resume()
      return
    }
    this.#listen()
  }

  #giveKept(kept: readonly Buffer[], sink: BodySink): void {
    let more = true
    for (const piece of kept) more = sink.write(piece)
    this.#events.emptied()
    if (this.ended) sink.end()
    else if (more) this.resume()
    else this.#pause()
  }

  #listen(): void {
    // A stream of HTTP/2 that ends without a byte does so before anybody listens.
    if (this.#request.readableEnded) {
      this.#onEnd()
      return
    }
    this.#events.begin()
    this.#request.on('data', this.#onData)
    this.#request.on('end', this.#onEnd)
    this.#request.on('error', ignore)
  }

  wait(): void {
    this.waitingForClient = false
    this.#request.pause()
  }

  resume(): void {
    if (this.ended) return
    this.waitingForClient = true
    this.#request.resume()
  }

  /** Lets go of the request. */
  destroy(): void {
    if ((this.#sink === undefined && this.#kept === undefined) || this.ended) return
    this.#kept = undefined
    this.ended = true
    this.waitingForClient = false
    this.#request.off('data', this.#onData)
    this.#request.off('end', this.#onEnd)
    this.#request.pause()
  }

  #onData = (chunk: Buffer): void => {
    try {
      this.#take(chunk)
    } catch (error) {
      this.#events.broken(error)
    }
  }

  #take(chunk: Buffer): void {
    if (!this.#events.received(chunk.length)) return
    this.#replay?.add(chunk)
    const piece = this.#digest === undefined ? chunk : this.#hold(chunk, this.#digest)
    if (piece === undefined || this.#give(piece) || this.ended) return
    this.#pause()
  }

  #pause(): void {
    this.waitingForClient = false
    this.#request.pause()
  }

  /** @returns whether more may come */
  #give(piece: Buffer): boolean {
    if (this.#kept === undefined) return this.#sink!.write(piece)
    this.#kept.push(piece)
    // A sink that has begun meanwhile has asked for more itself, or not.
    return this.#events.kept(piece.length) || this.#sink !== undefined
  }

  #hold(chunk: Buffer, digest: BodyDigest): Buffer | undefined {
    digest.add(chunk)
    const before = this.#held
    this.#held = chunk
    return before
  }

  #onEnd = (): void => {
    try {
      this.#end()
    } catch (error) {
      this.#events.broken(error)
    }
  }

  #end(): void {
    // A stream of HTTP/2 that was reset ends, too. It closes next, and that is told to who forwards it.
    if (!this.#request.complete) return
    if (this.#digest?.holds() === false) {
      this.#events.forged()
      return
    }
    if (this.#held !== undefined) {
      if (this.#kept === undefined) this.#sink!.write(this.#held)
      else this.#kept.push(this.#held)
    }
    const gathered = this.#kept !== undefined
    this.ended = true
    this.waitingForClient = false
    this.#replay?.end()
    this.#events.ended()
    if (!gathered) this.#sink!.end()
  }
}

/** The client has gone. Whoever forwards its request is told that its response is closed. */
function ignore(): void {}
