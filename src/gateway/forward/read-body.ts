import type { IncomingMessage, ServerResponse } from 'node:http'
import { type BodyDigest, createBodyDigest } from '../../credentials/body-digest.js'
import type { Refusal } from '../../errors.js'
import { give, type Share, type Shares, type Shortage, take } from '../../shares.js'
import type { Exchange, KeptBody } from '../exchange/exchange.js'
import type { Watchdog, Watched } from '../exchange/watchdog.js'
import { bodyRefusal, noRoom, tooLarge } from '../extensions/hook-body.js'
import { callerOf } from '../identify/caller.js'
import { PlainRequest } from '../listen/plain/request.js'
import { type Later, WAITING } from '../request-lifecycle.js'
import { ALL_BYTES, PIECE_BYTES } from './upload-pace.js'

export interface BodyDeps {
  readonly shares: Shares
  readonly watchdog: Watchdog
}

/**
 * Reads the body of a request for hooks, before the request is forwarded. The caller's share of `upload_buffers` is charged
 * for what is kept. A body that is longer than `most`, or than the share allows, is not read to its end, and
 * stays to be read.
 *
 * @param most longest body that a hook takes, in bytes
 * @returns a refusal if there is something wrong with the body, or a hook denies what it cannot have
 */
export function readBody(
  { shares, watchdog }: BodyDeps,
  x: Exchange,
  most: number,
  later: Later<Refusal | undefined>,
): Refusal | undefined | typeof WAITING {
  const { req, res } = later
  const { contentLength, chunked } = x.headers
  const { bodyLimit } = x.route!
  if (req === undefined || res === undefined || !(contentLength > 0 || chunked)) return undefined
  if (contentLength > bodyLimit) return tooLarge(bodyLimit)
  const reading = new BodyReading(shares, watchdog, x, most, later, req, res)
  x.body = reading
  // It is passed on unread.
  if (contentLength > most) return bodyRefusal(x)
  const asked: object = req
  return asked instanceof PlainRequest ? reading.take(asked.body!) : reading.start()
}

/**
 * Puts another body in place of the one that was kept, or of none.
 *
 * @returns a refusal if its caller has no share left to keep it
 */
export function replaceBody(shares: Shares, x: Exchange, whole: Buffer): Refusal | undefined {
  x.body?.release()
  const share = shares.open('upload_buffers', ALL_BYTES)
  const caller = callerOf(x, shares)
  const shortage = take(share, caller, whole.length)
  if (shortage !== undefined) return noRoom(shortage)
  let held = whole.length
  x.body = {
    whole,
    shortage: undefined,
    replaced: true,
    release() {
      this.whole = undefined
      if (held > 0) give(share, caller, held)
      held = 0
    },
  }
  return undefined
}

/** Reads one body. It is the exchange's `body` from the start: the end of the exchange also ends the reading. */
class BodyReading implements KeptBody, Watched {
  watchSlot = -1
  whole: Buffer | undefined
  shortage: Shortage | undefined
  readonly replaced = false
  json: unknown
  readonly #share: Share
  readonly #caller: string | undefined
  readonly #digest: BodyDigest | undefined
  #pieces: Buffer[] = []
  /** Bytes taken of the share. */
  #held = 0
  /** Watchdog time of the latest byte. */
  #progress: number
  #reading = false

  constructor(
    shares: Shares,
    private readonly watchdog: Watchdog,
    private readonly x: Exchange,
    private readonly most: number,
    private readonly later: Later<Refusal | undefined>,
    private readonly req: IncomingMessage,
    private readonly res: ServerResponse,
  ) {
    this.#share = shares.open('upload_buffers', ALL_BYTES)
    this.#caller = callerOf(x, shares)
    this.#digest = x.bodyDigest === undefined ? undefined : createBodyDigest(x.bodyDigest)
    this.#progress = watchdog.now()
  }

  start(): typeof WAITING {
    const { req, res, x } = this
    this.#reading = true
    req.on('data', this.#onData)
    req.on('end', this.#onEnd)
    req.on('error', ignore)
    // HTTP/1.0 has no 1xx (RFC 9110 §15.2).
    if (x.headers.expectContinue && req.httpVersionMinor > 0) {
      // Behind another response, Node could send the 100 after the header of this one.
      if (res.socket === null) res.once('socket', this.#continue)
      else this.#continue()
    }
    this.watchdog.add(this)
    return WAITING
  }

  /** Takes a body that came with its header. Its connection has no other one, so no share is charged. */
  take(body: Buffer): Refusal | undefined {
    this.x.bytesIn = body.length
    this.#pieces.push(body)
    this.#digest?.add(body)
    return this.#complete()
  }

  release(): void {
    this.#stop()
    this.whole = undefined
    this.json = undefined
    this.#pieces = []
    if (this.#held > 0) give(this.#share, this.#caller, this.#held)
    this.#held = 0
  }

  #continue = (): void => {
    // It is sent once.
    ;(this.x.headers as { expectContinue: boolean }).expectContinue = false
    this.res.writeContinue()
  }

  #onData = (chunk: Buffer): void => {
    try {
      this.#take(chunk)
    } catch (error) {
      this.broken(error)
    }
  }

  #take(chunk: Buffer): void {
    const { x } = this
    const { bodyLimit } = x.route!
    this.#progress = this.watchdog.now()
    this.#pieces.push(chunk)
    x.bytesIn += chunk.length
    if (x.bytesIn > bodyLimit) {
      this.#proceed(tooLarge(bodyLimit))
      return
    }
    if (x.bytesIn <= this.most) {
      const bytes = chunk.length + PIECE_BYTES
      this.shortage = take(this.#share, this.#caller, bytes)
      if (this.shortage === undefined) {
        this.#held += bytes
        this.#digest?.add(chunk)
        return
      }
    }
    this.#putBack()
    this.#proceed(bodyRefusal(x))
  }

  /** Puts everything back into the stream, for the code that forwards it. */
  #putBack(): void {
    this.#stop()
    this.req.pause()
    this.req.unshift(Buffer.concat(this.#pieces))
    this.#pieces = []
    this.x.bytesIn = 0
  }

  #onEnd = (): void => {
    // An HTTP/2 stream that was reset ends, too. It closes next, and with it the exchange.
    if (!this.req.complete) return
    try {
      this.#proceed(this.#complete())
    } catch (error) {
      this.broken(error)
    }
  }

  #complete(): Refusal | undefined {
    if (this.#digest?.holds() === false)
      return { code: 'digest_mismatch', cause: 'the body does not match the signed digest' }
    this.whole = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces)
    this.#pieces = []
    return bodyRefusal(this.x)
  }

  #proceed(refusal: Refusal | undefined): void {
    if (refusal === undefined) this.#stop()
    else this.release()
    this.later.proceed(refusal)
  }

  #stop(): void {
    if (!this.#reading) return
    this.#reading = false
    this.watchdog.delete(this)
    this.req.off('data', this.#onData)
    this.req.off('end', this.#onEnd)
    this.res.off('socket', this.#continue)
  }

  // Watched: the time limits

  check(now: number): void {
    const { total, request, idle } = this.x.route!.timeouts
    const took = now - this.x.started
    if (total > 0 && took > total) this.#expire(`the request took more than ${total} ms`)
    else if (request > 0 && took > request) this.#expire(`the request was not complete within ${request} ms`)
    else if (idle > 0 && now - this.#progress > idle)
      this.#expire(`no byte of the request arrived for ${idle} ms`)
  }

  #expire(cause: string): void {
    this.#proceed({ code: 'request_timeout', cause })
  }

  broken(error: unknown): void {
    this.release()
    this.later.broken(error)
  }
}

/** Ignores that the client has gone: the response closes, and with it the exchange. */
function ignore(): void {}
