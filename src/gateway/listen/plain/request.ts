import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { PlainHead } from './head.js'

/**
 * The parts of Node's request that forwarding and responding use, for a request that arrived whole. Its body is here, and
 * as a stream for code that reads it as one; nothing else about it emits events.
 */
export class PlainRequest {
  readonly method: string
  readonly url: string
  readonly rawHeaders: string[]
  readonly body: Buffer | undefined
  readonly httpVersionMajor = 1
  readonly httpVersionMinor = 1
  readonly complete = true
  readonly readableLength = 0
  readonly readableEnded = true
  #stream: BodyStream | undefined

  constructor(
    { method, target, fields, body }: PlainHead,
    readonly socket: Socket,
  ) {
    this.method = method
    this.url = target
    this.rawHeaders = fields
    this.body = body
  }

  /** Returns the request as Node has it, a stream of its body. */
  asStream(): IncomingMessage {
    const { body } = this
    if (body !== undefined) this.#stream ??= new BodyStream(this, body)
    return (this.#stream ?? this) as unknown as IncomingMessage
  }

  /** Reads what nobody has read of a stream: a listener may wait for its end. */
  resume(): this {
    this.#stream?.resume()
    return this
  }

  // Without a stream no event ever comes, so listeners are not kept.

  on(): this {
    return this
  }

  once(): this {
    return this
  }

  off(): this {
    return this
  }

  read(): null {
    return null
  }

  pause(): this {
    return this
  }

  destroy(): this {
    return this
  }
}

class BodyStream extends Readable {
  readonly method: string
  readonly url: string
  readonly rawHeaders: string[]
  readonly socket: Socket
  readonly httpVersionMajor = 1
  readonly httpVersionMinor = 1
  readonly complete = true

  constructor({ method, url, rawHeaders, socket }: PlainRequest, body: Buffer) {
    super({ highWaterMark: 65_536 })
    this.method = method
    this.url = url
    this.rawHeaders = rawHeaders
    this.socket = socket
    this.push(body)
    this.push(null)
  }

  override _read(): void {}
}
