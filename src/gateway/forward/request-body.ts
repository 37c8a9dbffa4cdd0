import type { IncomingMessage } from 'node:http'
import type { BodyDigest } from '../../credentials/body-digest.js'
import type { BodySink, BodySource } from '../../upstream/sender.js'
import type { Breakable } from '../exchange/faults.js'
import type { Replay } from './body-buffer.js'
import type { UploadPace } from './upload-pace.js'

export interface BodyEvents extends Breakable {
  /** Called with every chunk's size. Returns false when the body has become too large. */
  received(bytes: number): boolean
  /** Called before the first byte is read: the time to send 100 Continue. */
  begin(): void
  /** Called when the client has sent all of the body. */
  ended(): void
  /** Called when the body is not the one that was signed. Its end is not passed on. */
  forged(): void
}

/** Longest body that is sent as one piece, in bytes. */
const WHOLE_BYTES = 16_384

/** Passes the request's body to the upstream. It counts the bytes, and keeps them if they may have to be sent again. */
export class RequestBody implements BodySource {
  /** Nothing more will come of it. */
  ended = false
  /** The upstream has asked for more than the client has sent. */
  waitingForClient = false
  #sink: BodySink | undefined
  /** The latest piece of a signed body. It is held back until the digest shows that this is the body that was signed. */
  #held: Buffer | undefined
  /** Pieces gathered before there is a sink. */
  #kept: Buffer[] | undefined
  /** Set for a body that is gathered first. */
  #pace: UploadPace | undefined

  /**
   * @param replay keeps the pieces, if they may have to be sent again
   * @param digest what the body has to match, if it was signed
   */
  constructor(
    private readonly request: IncomingMessage,
    private readonly events: BodyEvents,
    private readonly replay: Replay | undefined,
    private readonly digest: BodyDigest | undefined,
  ) {}

  /**
   * Returns the whole body if it is short and has arrived, usually in one packet with the header. Sent as one piece it
   * costs a fifth of what a stream does. The body emits nothing else then.
   */
  takeWhole(length: number): Buffer | undefined {
    const request = this.request
    if (this.#sink !== undefined || this.#kept !== undefined || length < 0 || length > WHOLE_BYTES) return
    if (!request.complete || request.readableLength !== length) return
    const whole = request.read() as Buffer | null
    if (whole === null || !this.events.received(whole.length)) return
    this.ended = true
    this.digest?.add(whole)
    if (this.digest?.holds() === false) {
      this.events.forged()
      return
    }
    this.replay?.add(whole)
    this.replay?.end()
    this.events.ended()
    return whole
  }

  /** Returns whether the whole body has arrived. */
  get isHere(): boolean {
    return this.request.complete
  }

  /** Starts to read the body before there is a sink: `pace` decides when it goes to an upstream. */
  gather(pace: UploadPace): void {
    this.#pace = pace
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
      this.request.resume()
      return
    }
    this.#listen()
  }

  #giveKept(kept: readonly Buffer[], sink: BodySink): void {
    let more = true
    for (const piece of kept) more = sink.write(piece)
    this.#pace!.emptied()
    if (this.ended) sink.end()
    else if (more) this.resume()
    else this.#pause()
  }

  #listen(): void {
    // An HTTP/2 stream that ends without a byte does so before anything listens.
    if (this.request.readableEnded) {
      this.#onEnd()
      return
    }
    this.events.begin()
    this.request.on('data', this.#onData)
    this.request.on('end', this.#onEnd)
    this.request.on('error', ignore)
    // It is paused if a stage has begun to read it.
    this.request.resume()
  }

  wait(): void {
    this.waitingForClient = false
    this.request.pause()
  }

  resume(): void {
    if (this.ended) return
    this.waitingForClient = true
    this.request.resume()
  }

  /** Returns whether the body waits until its caller may have another upload. */
  get waitsForShare(): boolean {
    return this.#pace?.waitsForShare === true
  }

  /** Returns whether the client sends fast enough for the connection that the body holds. Call it now and then. */
  keepsPace(now: number): boolean {
    return this.#pace === undefined || this.ended || this.#pace.look(now, this.waitingForClient)
  }

  /** Gives back what the body holds of its caller's shares. */
  release(): void {
    this.#pace?.release()
  }

  /** Stops reading the request. */
  destroy(): void {
    this.release()
    if ((this.#sink === undefined && this.#kept === undefined) || this.ended) return
    this.#kept = undefined
    this.ended = true
    this.waitingForClient = false
    this.request.off('data', this.#onData)
    this.request.off('end', this.#onEnd)
    this.request.pause()
  }

  #onData = (chunk: Buffer): void => {
    try {
      this.#take(chunk)
    } catch (error) {
      this.events.broken(error)
    }
  }

  #take(chunk: Buffer): void {
    if (!this.events.received(chunk.length)) return
    this.replay?.add(chunk)
    const piece = this.digest === undefined ? chunk : this.#hold(chunk, this.digest)
    if (piece === undefined || this.#give(piece) || this.ended) return
    this.#pause()
  }

  #pause(): void {
    this.waitingForClient = false
    this.request.pause()
  }

  /**
   * Passes a piece on.
   *
   * @returns whether more may come
   */
  #give(piece: Buffer): boolean {
    if (this.#kept === undefined) return this.#sink!.write(piece)
    this.#kept.push(piece)
    // If `kept` has started a sink, the sink has asked for more itself, or not.
    return this.#pace!.kept(piece.length) || this.#sink !== undefined
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
      this.events.broken(error)
    }
  }

  #end(): void {
    // An HTTP/2 stream that was reset ends, too. It closes next, which the forwarding code is told.
    if (!this.request.complete) return
    if (this.digest?.holds() === false) {
      this.events.forged()
      return
    }
    if (this.#held !== undefined) {
      if (this.#kept === undefined) this.#sink!.write(this.#held)
      else this.#kept.push(this.#held)
    }
    const gathered = this.#kept !== undefined
    this.ended = true
    this.waitingForClient = false
    this.replay?.end()
    this.#pace?.complete()
    this.events.ended()
    if (!gathered) this.#sink!.end()
  }
}

/** Ignores that the client has gone: the forwarding code learns of it when the response closes. */
function ignore(): void {}
