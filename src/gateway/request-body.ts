import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { Replay } from './replay.js'

export interface BodyEvents {
  /** Called with every chunk's size. Returns false when the body has become too large. */
  received(bytes: number): boolean
  /** Before the first byte is read: the time to say 100 Continue. */
  begin(): void
  /** The client has sent all of it. */
  ended(): void
}

/** Longest body that is sent as one piece. */
const WHOLE_BYTES = 16_384

/**
 * The request's body on its way upstream. It stands between the two so that undici, which destroys a body whose
 * response came early, does not destroy the client's socket with it, and so that bytes are counted as they pass.
 */
export class RequestBody extends Readable {
  readonly #request: IncomingMessage
  readonly #events: BodyEvents
  readonly #replay: Replay | undefined
  #begun = false
  #waiting = false
  #taken = false

  /** @param replay keeps what comes, where it may have to be sent again */
  constructor(request: IncomingMessage, events: BodyEvents, replay: Replay | undefined) {
    super({ highWaterMark: 65_536 })
    this.#request = request
    this.#events = events
    this.#replay = replay
    // undici listens only while it sends; what goes wrong later has been told by then, and must not be uncaught.
    this.on('error', () => {})
  }

  /** Whether the upstream has asked for more than the client has sent. */
  get waitingForClient(): boolean {
    return this.#waiting
  }

  /** Nothing more will come of it. */
  get ended(): boolean {
    return this.#taken || this.readableEnded
  }

  /**
   * All of it, where it is short and has come by now, usually in one packet with its header: sent as one piece it costs
   * a fifth of what two streams do. This stream has nothing to give then.
   */
  takeWhole(length: number): Buffer | undefined {
    const request = this.#request
    if (this.#begun || length > WHOLE_BYTES || !request.complete || request.readableLength !== length) return
    const whole = request.read() as Buffer | null
    if (whole === null || !this.#events.received(whole.length)) return
    this.#begun = true
    this.#taken = true
    this.#replay?.add(whole)
    this.#replay?.end()
    this.#events.ended()
    return whole
  }

  override _read(): void {
    this.#waiting = true
    if (this.#begun) {
      this.#request.resume()
      return
    }
    this.#begun = true
    // A stream of HTTP/2 that ends without a byte does so before anybody listens.
    if (this.#request.readableEnded) {
      this.#onEnd()
      return
    }
    this.#events.begin()
    this.#request.on('data', this.#onData)
    this.#request.on('end', this.#onEnd)
    this.#request.on('error', this.#onError)
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#request.off('data', this.#onData)
    this.#request.off('end', this.#onEnd)
    this.#request.off('error', this.#onError)
    this.#request.pause()
    done(error)
  }

  #onData = (chunk: Buffer): void => {
    if (!this.#events.received(chunk.length)) return
    this.#replay?.add(chunk)
    if (!this.push(chunk)) {
      this.#waiting = false
      this.#request.pause()
    }
  }

  #onEnd = (): void => {
    // A stream of HTTP/2 that was reset ends, too. It closes next, and that is told to who forwards it.
    if (!this.#request.complete) return
    this.#waiting = false
    this.#replay?.end()
    this.#events.ended()
    this.push(null)
  }

  #onError = (error: Error): void => {
    this.destroy(error)
  }
}
