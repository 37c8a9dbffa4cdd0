import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { PlainHead } from './head.js'

/**
 * Creates the parts of Node's request that forwarding and responding use, for a request that arrived whole. With a body it
 * is a stream, without one an object that emits nothing.
 */
export function plainRequest(head: PlainHead, socket: Socket): IncomingMessage {
  const req = head.body === undefined ? new BareRequest(head, socket) : new RequestWithBody(head, socket)
  return req as unknown as IncomingMessage
}

class BareRequest {
  readonly method: string
  readonly url: string
  readonly rawHeaders: string[]
  readonly httpVersionMajor = 1
  readonly httpVersionMinor = 1
  readonly complete = true
  readonly readableLength = 0
  readonly readableEnded = true

  constructor(
    { method, target, fields }: PlainHead,
    readonly socket: Socket,
  ) {
    this.method = method
    this.url = target
    this.rawHeaders = fields
  }

  // No event ever comes, so listeners are not kept.

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

  resume(): this {
    return this
  }

  destroy(): this {
    return this
  }
}

class RequestWithBody extends Readable {
  readonly method: string
  readonly url: string
  readonly rawHeaders: string[]
  readonly httpVersionMajor = 1
  readonly httpVersionMinor = 1
  readonly complete = true

  constructor(
    { method, target, fields, body }: PlainHead,
    readonly socket: Socket,
  ) {
    super({ highWaterMark: 65_536 })
    this.method = method
    this.url = target
    this.rawHeaders = fields
    this.push(body)
    this.push(null)
  }

  override _read(): void {}
}
