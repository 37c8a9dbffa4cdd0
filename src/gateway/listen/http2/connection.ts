import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Config } from '../../../config/schema/schema.js'
import type { Refusal } from '../../../errors.js'
import { type Secured, securedOf } from '../../exchange/tls-info.js'
import { endGently, peerOf } from '../../respond/client-error.js'
import {
  ACK,
  ConnectionError,
  ErrorCode,
  Flag,
  FRAME_HEAD,
  FrameType,
  MAX_FRAME,
  MAX_WINDOW,
  uint32,
} from './frames.js'
import { HpackDecoder, TABLE_BYTES } from './hpack.js'
import { Output } from './output.js'
import { readHttp2Head } from './request-head.js'
import { BACKLOG_BYTES, type Carrier, Http2Request, Http2Response } from './stream.js'

/** Why the gateway closed an abusive connection. */
export type Abuse = 'resets' | 'pings' | 'settings' | 'protocol'

/** Counts of HTTP/2 connections for the metrics. They are plain numbers: the metrics read them whenever they like. */
export interface Http2Counts {
  open: number
  readonly closed: Record<Abuse, number>
}

export interface Http2Listening {
  readonly settings: Config['server']
  readonly counts: Http2Counts
  readonly draining: () => boolean
  /** @param refused set if the header cannot be served */
  accept(req: Http2Request, res: Http2Response, refused: Refusal | undefined): void
}

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/**
 * Pings and SETTINGS that a connection may send at once, and per second. Real clients send one every few seconds at most.
 * A ping behind a frame of a response does not count: gRPC measures the delay of each round trip while it downloads.
 */
const CONTROL_BURST = 100
const CONTROL_RATE = 10
/**
 * Frames that bring nothing, at once and per second; each frame of a body, and of a response, allows some more. A Go client
 * that reads 4 KiB at a time opens two windows for each: 8 frames for the longest one of a response.
 */
const IDLE_BURST = 1_000
const IDLE_RATE = 100
const IDLE_PER_FRAME = 10
/** Windows for bodies of clients: of a stream, and of all streams of a connection together. */
const STREAM_WINDOW = 262_144
const CONNECTION_WINDOW = 1_048_576
const DEFAULT_WINDOW = 65_535
/** Overhead of a piece of a body that waits, in bytes. */
const PIECE_BYTES = 128
/** Pieces that are shorter are copied, so that they do not keep all bytes alive that came with them. */
const OWN_BYTES = 4_096
/**
 * Header pairs allowed beyond `max_headers`: the four pseudo-header fields, and some more that show that there are too
 * many.
 */
const SPARE_PAIRS = 8
/** Bytes that a header may have on the wire beyond `max_header_size`, and how many frames may continue it. */
const SPARE_BLOCK = 65_536
const MAX_CONTINUATIONS = 16
/** Bytes that may wait for the client before the gateway stops reading from it: it would have to answer more. */
const UNREAD_BYTES = 524_288
/** How long the reset of a stream may take to go out, in ms. */
const CUT_MS = 1_000
/** Streams that are remembered when they are over: the latest, and those that the gateway has reset. */
const OVER = 256
const RESET = 1_024

/** One connection over HTTP/2 (RFC 9113). */
export class Http2Connection implements Carrier {
  readonly socket: Socket
  readonly peer: string
  readonly secured: Secured | undefined
  readonly output: Output
  readonly ready = new Set<Http2Response>()
  sendWindow = DEFAULT_WINDOW
  hasSmallTable = false
  readonly #listening: Http2Listening
  readonly #decoder: HpackDecoder
  /** Streams on which frames may still come or go. */
  readonly #streams = new Map<number, Http2Response>()
  /** Responses that are on their way, in order. */
  #leaving: Http2Response[] = []
  /** Requests whose response is not closed. */
  #open = 0
  /** The highest id that came, and the highest that was accepted. */
  #lastId = 0
  #acceptedId = 0
  /** Ids of streams that are over. */
  readonly #over = new Int32Array(OVER)
  #overAt = 0
  readonly #reset = new Set<number>()
  /** The latest request, while its body comes in the same packet: a short one is then forwarded as a whole. */
  #fresh: (() => void) | undefined
  #freshId = 0

  // Reading
  /** The beginning of a frame whose end has not come. */
  #partial: Buffer = Buffer.allocUnsafe(PREFACE.length)
  #partialBytes = 0
  #prefaced = false
  #settled = false
  /** A header whose end has not come; 0: there is none. */
  #blockId = 0
  #blockFlags = 0
  #block: Buffer[] = []
  #blockBytes = 0
  #paused = false
  #closed = false

  // Windows
  #peerWindow = DEFAULT_WINDOW
  #window = DEFAULT_WINDOW
  /** Bytes of bodies that nobody has read so far, with their overhead. */
  #buffered = 0

  // Limits
  #asked = false
  #acknowledged = false
  #told = false
  readonly #silence: NodeJS.Timeout
  readonly #patience: NodeJS.Timeout
  readonly #resets: Bucket
  readonly #pings = bucket(CONTROL_BURST, CONTROL_RATE)
  readonly #settings = bucket(CONTROL_BURST, CONTROL_RATE)
  readonly #idle = bucket(IDLE_BURST, IDLE_RATE)
  /** `Output.answers` at the latest idle frame, and at the latest ping. */
  #answers = 0
  #answersPinged = 0

  constructor(socket: Socket, listening: Http2Listening, onClose: (connection: Http2Connection) => void) {
    const { http2, max_headers, max_header_size, header_timeout, keep_alive } = listening.settings
    this.socket = socket
    this.peer = peerOf(socket)
    this.secured = securedOf(socket)
    this.#listening = listening
    this.output = new Output(socket, this.#onTaken)
    this.#decoder = new HpackDecoder(max_headers + SPARE_PAIRS, max_header_size)
    this.#resets = bucket(http2.reset_burst, http2.reset_rate)
    this.#patience = setTimeout(this.#onPatience, header_timeout).unref()
    this.#silence = setTimeout(this.#onSilence, keep_alive).unref()
    // The HTTP/1.1 server lets clients end their side and wait. An HTTP/2 client that ends its side has gone: without its
    // frames no response of any size can be sent.
    socket.allowHalfOpen = false
    socket.on('data', this.#onData)
    socket.on('end', () => socket.destroy())
    socket.on('error', () => {})
    socket.once('close', () => {
      this.#stop()
      onClose(this)
    })
    const settings = [
      [3, http2.max_concurrent_streams],
      [4, STREAM_WINDOW],
      [6, max_header_size],
    ] as const
    const payload = settings.map(([id, value]) => `\0${String.fromCharCode(id)}${uint32(value)}`).join('')
    this.output.frame(FrameType.Settings, 0, 0, payload)
    this.#openWindow()
  }

  /**
   * Sends one GOAWAY, which names the last stream that the gateway accepts, and ends the connection when the streams up to
   * it are over. Requests that the client sent after that one were not begun: the client may repeat them, whatever they are
   * (RFC 9113 §6.8, §8.7).
   */
  leave(): void {
    if (this.#told || this.#closed) return
    this.#told = true
    this.#sayGoodbye(ErrorCode.None)
    if (this.#open === 0) this.#hangUp()
  }

  // Carrier

  consumed(request: Http2Request, bytes: number, pieces: number): void {
    this.#buffered -= bytes + pieces * PIECE_BYTES
    if (this.#closed) return
    if (!request.complete && this.#streams.has(request.id)) this.#owe(request, bytes)
    this.#openWindow()
  }

  responded(res: Http2Response): void {
    const { req } = res
    this.#leaving.push(res)
    // The rest of the request is not wanted (RFC 9113 §8.1).
    if (!req.complete) this.#sendReset(req.id, ErrorCode.None)
    this.#remove(res)
  }

  cut(res: Http2Response): void {
    res.isCut = true
    if (this.#streams.has(res.req.id)) {
      this.#sendReset(res.req.id, ErrorCode.Internal)
      this.#remove(res)
    }
    process.nextTick(this.#abort, res)
    // A reset waits behind the connection's queued bytes. If the client takes none, it would wait for ever. Other requests
    // have time limits of their own: a client that is only slow keeps them.
    const mark = this.output.written
    const look = (): void => {
      if (this.#open === 0 && this.output.taken < mark) this.socket.destroy()
    }
    setTimeout(look, CUT_MS).unref()
  }

  // Reading frames

  #onData = (chunk: Buffer): void => {
    try {
      this.#read(chunk)
      this.#begin()
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error
      this.#fail(error.code, 'protocol')
    }
    if (this.output.backlog < UNREAD_BYTES || this.#closed) return
    this.#paused = true
    this.socket.pause()
  }

  #read(chunk: Buffer): void {
    let at = 0
    while ((this.#partialBytes > 0 || !this.#prefaced) && !this.#closed) {
      const wanted = this.#wanted()
      if (this.#partial.length < wanted) {
        const longer = Buffer.allocUnsafe(wanted)
        this.#partial.copy(longer, 0, 0, this.#partialBytes)
        this.#partial = longer
      }
      const copied = chunk.copy(this.#partial, this.#partialBytes, at, at + wanted - this.#partialBytes)
      at += copied
      this.#partialBytes += copied
      if (this.#partialBytes < wanted) return
      if (this.#wanted() > wanted) continue
      const whole = this.#partial
      this.#partial = NO_BYTES
      this.#partialBytes = 0
      if (this.#prefaced) this.#frame(whole, 0)
      else if (whole.compare(PREFACE) !== 0) throw new ConnectionError(ErrorCode.Protocol)
      else this.#prefaced = true
    }
    const { length } = chunk
    while (length - at >= FRAME_HEAD && !this.#closed) {
      const end = at + FRAME_HEAD + payloadLength(chunk, at)
      if (end > length) break
      this.#frame(chunk, at)
      at = end
    }
    if (at === length || this.#closed) return
    this.#partialBytes = length - at
    this.#partial = Buffer.allocUnsafe(Math.max(FRAME_HEAD, this.#partialBytes))
    chunk.copy(this.#partial, 0, at)
  }

  /** Returns how many bytes make the partial frame whole, as far as can be told. */
  #wanted(): number {
    if (!this.#prefaced) return PREFACE.length
    return this.#partialBytes < FRAME_HEAD ? FRAME_HEAD : FRAME_HEAD + payloadLength(this.#partial, 0)
  }

  #frame(bytes: Buffer, head: number): void {
    const type = bytes[head + 3]!
    const flags = bytes[head + 4]!
    const id = bytes.readUInt32BE(head + 5) & MAX_WINDOW
    const from = head + FRAME_HEAD
    const to = from + payloadLength(bytes, head)
    if (type !== FrameType.Data) this.#begin()
    // The client's preface includes SETTINGS (RFC 9113 §3.4).
    if (!this.#settled && type !== FrameType.Settings) throw new ConnectionError(ErrorCode.Protocol)
    if (this.#blockId > 0 && (type !== FrameType.Continuation || id !== this.#blockId))
      throw new ConnectionError(ErrorCode.Protocol)
    switch (type) {
      case FrameType.Data:
        this.#onBody(bytes, from, to, flags, id)
        break
      case FrameType.Headers:
        this.#onHeaders(bytes, from, to, flags, id)
        break
      case FrameType.Priority:
        need(id > 0)
        if (to - from !== 5) this.#streamError(id, ErrorCode.FrameSize)
        else if (dependsOn(bytes, from) === id) this.#streamError(id, ErrorCode.Protocol)
        this.#isIdle()
        break
      case FrameType.Reset:
        need(id > 0 && id <= this.#lastId)
        need(to - from === 4, ErrorCode.FrameSize)
        this.#onReset(id)
        break
      case FrameType.Settings:
        this.#onSettings(bytes, from, to, flags, id)
        break
      case FrameType.Ping:
        need(id === 0)
        need(to - from === 8, ErrorCode.FrameSize)
        if (!this.#mayPing()) this.#fail(ErrorCode.EnhanceYourCalm, 'pings')
        else if ((flags & ACK) === 0)
          this.output.frame(FrameType.Ping, ACK, 0, bytes.toString('latin1', from, to))
        break
      case FrameType.GoAway:
        need(id === 0)
        need(to - from >= 8, ErrorCode.FrameSize)
        // The client is about to leave.
        this.leave()
        break
      case FrameType.WindowUpdate:
        need(to - from === 4, ErrorCode.FrameSize)
        this.#onWindow(id, bytes.readUInt32BE(from) & MAX_WINDOW)
        break
      case FrameType.Continuation:
        need(this.#blockId > 0)
        this.#continue(bytes, from, to, flags)
        break
      case FrameType.PushPromise:
        throw new ConnectionError(ErrorCode.Protocol)
      default:
        this.#isIdle()
    }
  }

  #mayPing(): boolean {
    const { answers } = this.output
    if (answers === this.#answersPinged) return this.#pings()
    this.#answersPinged = answers
    return true
  }

  /** Counts a frame that brings nothing. */
  #isIdle(): void {
    const { answers } = this.output
    this.#idle((this.#answers - answers) * IDLE_PER_FRAME)
    this.#answers = answers
    if (!this.#idle()) throw new ConnectionError(ErrorCode.EnhanceYourCalm)
  }

  #onBody(bytes: Buffer, from: number, to: number, flags: number, id: number): void {
    need(id > 0 && id <= this.#lastId)
    const all = to - from
    this.#window -= all
    need(this.#window >= 0, ErrorCode.FlowControl)
    let start = from
    let end = to
    if ((flags & Flag.Padded) !== 0) {
      need(all > 0, ErrorCode.FrameSize)
      start++
      end -= bytes[from]!
      need(start <= end)
    }
    const last = (flags & Flag.EndStream) !== 0
    const size = end - start
    if (size > 0) this.#idle(-IDLE_PER_FRAME)
    else if (!last) this.#isIdle()
    const res = this.#streams.get(id)
    if (res === undefined || res.req.complete) {
      this.#onLate(id)
      this.#openWindow()
      return
    }
    const { req } = res
    req.window -= all
    if (req.window < 0) {
      this.#streamError(id, ErrorCode.FlowControl)
      return
    }
    if (all > size) this.#owe(req, all - size)
    let good = true
    if (size > 0) {
      this.#buffered += size + PIECE_BYTES
      const piece = bytes.subarray(start, end)
      good = req.push(size < OWN_BYTES ? Buffer.from(piece) : piece)
      if (!good) this.#buffered -= size + PIECE_BYTES
    }
    if (good && last) good = req.end()
    if (!good) this.#streamError(id, ErrorCode.Protocol)
    this.#openWindow()
  }

  /** Handles a frame on a stream that is over, or that the client has ended. */
  #onLate(id: number): void {
    // The client may have sent it before it knew.
    if (this.#reset.has(id)) return
    need(!this.#over.includes(id), ErrorCode.StreamClosed)
    this.#streamError(id, ErrorCode.StreamClosed)
  }

  #onHeaders(bytes: Buffer, from: number, to: number, flags: number, id: number): void {
    need(id % 2 === 1)
    let start = from
    let end = to
    if ((flags & Flag.Padded) !== 0) {
      need(to > from, ErrorCode.FrameSize)
      start++
      end -= bytes[from]!
    }
    let dependsOnItself = false
    if ((flags & Flag.Priority) !== 0) {
      need(start + 5 <= to, ErrorCode.FrameSize)
      dependsOnItself = dependsOn(bytes, start) === id
      start += 5
    }
    need(start <= end)
    if ((flags & Flag.EndHeaders) !== 0) {
      this.#onBlock(bytes, start, end, (flags & Flag.EndStream) !== 0, id, dependsOnItself)
    } else {
      this.#blockId = id
      this.#blockFlags = flags
      this.#block = [Buffer.from(bytes.subarray(start, end))]
      this.#blockBytes = end - start
      need(!dependsOnItself)
    }
  }

  #continue(bytes: Buffer, from: number, to: number, flags: number): void {
    this.#block.push(Buffer.from(bytes.subarray(from, to)))
    this.#blockBytes += to - from
    const most = this.#listening.settings.max_header_size + SPARE_BLOCK
    need(this.#blockBytes <= most && this.#block.length <= MAX_CONTINUATIONS + 1, ErrorCode.EnhanceYourCalm)
    if ((flags & Flag.EndHeaders) === 0) return
    const id = this.#blockId
    const block = Buffer.concat(this.#block)
    this.#blockId = 0
    this.#block = []
    this.#onBlock(block, 0, block.length, (this.#blockFlags & Flag.EndStream) !== 0, id, false)
  }

  /** Handles a whole header or trailer. Each is decoded, as later ones refer to its fields. */
  #onBlock(block: Buffer, from: number, to: number, last: boolean, id: number, malformed: boolean): void {
    this.#decoder.decode(block, from, to)
    if (malformed) this.#decoder.malformed = true
    const res = this.#streams.get(id)
    if (res !== undefined) this.#onTrailers(res, last)
    else if (id <= this.#lastId) {
      // An id that was passed over cannot be used any more (RFC 9113 §5.1.1).
      need(this.#reset.has(id) || this.#over.includes(id))
      this.#onLate(id)
    } else this.#onRequest(id, last)
  }

  /** Checks trailers, and leaves them out. */
  #onTrailers({ req }: Http2Response, last: boolean): void {
    const { malformed, tooLarge, fields } = this.#decoder
    const hasPseudo = fields.some((name, i) => i % 2 === 0 && name.charCodeAt(0) === 0x3a)
    if (req.complete) this.#onLate(req.id)
    else if (!last || malformed || tooLarge || hasPseudo || !req.end())
      this.#streamError(req.id, ErrorCode.Protocol)
  }

  #onRequest(id: number, last: boolean): void {
    const { settings, accept, draining } = this.#listening
    const { malformed, tooLarge, fields } = this.#decoder
    this.#lastId = id
    if (this.#told) {
      // Behind the GOAWAY: it is not begun, and the client knows.
      this.#ignore(id)
      return
    }
    this.#acceptedId = id
    if (this.#streams.size >= settings.http2.max_concurrent_streams) {
      need(!this.#acknowledged)
      this.#streamError(id, ErrorCode.Refused)
      return
    }
    if (tooLarge || this.#buffered + this.output.backlog > settings.http2.max_session_memory) {
      this.#streamError(id, ErrorCode.EnhanceYourCalm)
      return
    }
    const head = malformed ? undefined : readHttp2Head(fields, last)
    if (head === undefined) {
      this.#streamError(id, ErrorCode.Protocol)
      return
    }
    const req = new Http2Request(this, id, head, last, STREAM_WINDOW)
    const res = new Http2Response(this, req, this.#peerWindow)
    this.#streams.set(id, res)
    this.#open++
    res.once('close', this.#onOver)
    this.#asked = true
    // Waits for the first request: a client that is told to leave at once may never get to send one.
    if (draining()) this.leave()
    if (last) accept(req, res, head.refused)
    else {
      this.#fresh = () => accept(req, res, head.refused)
      this.#freshId = id
    }
  }

  #begin(): void {
    const begin = this.#fresh
    this.#fresh = undefined
    begin?.()
  }

  #onReset(id: number): void {
    const res = this.#streams.get(id)
    if (res === undefined) {
      this.#isIdle()
      return
    }
    this.#remove(res)
    this.#abort(res)
    if (!this.#resets()) this.#fail(ErrorCode.EnhanceYourCalm, 'resets')
  }

  #onSettings(bytes: Buffer, from: number, to: number, flags: number, id: number): void {
    need(id === 0)
    if ((flags & ACK) !== 0) {
      need(to === from, ErrorCode.FrameSize)
      need(this.#settled)
      if (this.#acknowledged) this.#isIdle()
      this.#acknowledged = true
      return
    }
    need((to - from) % 6 === 0, ErrorCode.FrameSize)
    this.#settled = true
    if (!this.#settings()) {
      this.#fail(ErrorCode.EnhanceYourCalm, 'settings')
      return
    }
    let window = this.#peerWindow
    for (let at = from; at < to; at += 6) {
      const value = bytes.readUInt32BE(at + 2)
      switch (bytes.readUInt16BE(at)) {
        case 1:
          if (value < TABLE_BYTES) this.hasSmallTable = true
          break
        case 2:
          need(value <= 1)
          break
        case 4:
          need(value <= MAX_WINDOW, ErrorCode.FlowControl)
          window = value
          break
        case 5:
          need(value >= MAX_FRAME && value <= 0xff_ffff)
          break
      }
    }
    this.output.frame(FrameType.Settings, ACK, 0, '')
    const more = window - this.#peerWindow
    this.#peerWindow = window
    if (more === 0) return
    for (const res of this.#streams.values()) {
      res.window += more
      need(res.window <= MAX_WINDOW, ErrorCode.FlowControl)
      if (more > 0) res.send()
    }
  }

  #onWindow(id: number, more: number): void {
    need(id <= this.#lastId)
    this.#isIdle()
    if (id === 0) {
      need(more > 0)
      this.sendWindow += more
      need(this.sendWindow <= MAX_WINDOW, ErrorCode.FlowControl)
      this.#sendReady()
      return
    }
    const res = this.#streams.get(id)
    if (res === undefined) return
    if (more === 0) this.#streamError(id, ErrorCode.Protocol)
    else if (res.window + more > MAX_WINDOW) this.#streamError(id, ErrorCode.FlowControl)
    else {
      res.window += more
      res.send()
    }
  }

  // Sending

  #sendReady(): void {
    for (const res of this.ready) {
      if (this.sendWindow <= 0 || this.output.backlog >= BACKLOG_BYTES) return
      this.ready.delete(res)
      res.send()
    }
  }

  #onTaken = (): void => {
    const { taken } = this.output
    let out = 0
    while (out < this.#leaving.length && this.#leaving[out]!.mark <= taken) out++
    if (out > 0)
      for (const res of this.#leaving.splice(0, out)) {
        res.req.release()
        res.close(true)
      }
    if (this.#closed) return
    this.#sendReady()
    if (!this.#paused || this.output.backlog > UNREAD_BYTES / 2) return
    this.#paused = false
    this.socket.resume()
  }

  #sendReset(id: number, code: ErrorCode): void {
    this.output.frame(FrameType.Reset, 0, id, uint32(code))
    this.#ignore(id)
  }

  /** Ignores frames on a stream from now on: the client sends them until it knows. */
  #ignore(id: number): void {
    this.#reset.add(id)
    if (this.#reset.size > RESET) for (const oldest of this.#reset) return void this.#reset.delete(oldest)
  }

  /** Ends a stream by a fault of the client, which counts like a request that it gives up. */
  #streamError(id: number, code: ErrorCode): void {
    const res = this.#streams.get(id)
    need(res !== undefined || id <= this.#lastId, code)
    if (this.#freshId === id) this.#fresh = undefined
    this.#begin()
    this.#sendReset(id, code)
    if (res !== undefined) {
      this.#remove(res)
      this.#abort(res)
    }
    if (!this.#resets()) this.#fail(ErrorCode.EnhanceYourCalm, 'resets')
  }

  /** Forgets a stream on which no more frames may go. */
  #remove({ req: { id } }: Http2Response): void {
    this.#streams.delete(id)
    this.#over[this.#overAt++ % OVER] = id
  }

  #abort = (res: Http2Response): void => {
    res.isCut = true
    res.req.drop()
    res.close(false)
  }

  #onOver = (): void => {
    this.#open--
    if (this.#open > 0 || this.#closed) return
    if (this.#told) this.#hangUp()
    else this.#silence.refresh()
  }

  #owe(req: Http2Request, bytes: number): void {
    req.owed += bytes
    if (req.owed < STREAM_WINDOW / 2) return
    this.output.frame(FrameType.WindowUpdate, 0, req.id, uint32(req.owed))
    req.window += req.owed
    req.owed = 0
  }

  /** Lets the client send more, as long as there is memory for it. */
  #openWindow(): void {
    const memory = this.#listening.settings.http2.max_session_memory
    const more = Math.min(CONNECTION_WINDOW, memory - this.#buffered) - this.#window
    if (more < CONNECTION_WINDOW / 2 && (more < MAX_FRAME || this.#window >= 2 * MAX_FRAME)) return
    this.output.frame(FrameType.WindowUpdate, 0, 0, uint32(more))
    this.#window += more
  }

  // The end

  #onPatience = (): void => {
    if (!this.#asked) this.leave()
    else if (!this.#acknowledged) this.#fail(ErrorCode.SettingsTimeout, 'protocol')
  }

  #onSilence = (): void => {
    if (this.#asked && this.#open === 0) this.leave()
  }

  #sayGoodbye(code: ErrorCode): void {
    this.output.frame(FrameType.GoAway, 0, 0, uint32(this.#acceptedId) + uint32(code))
  }

  #fail(code: ErrorCode, why: Abuse): void {
    if (this.#closed) return
    this.#listening.counts.closed[why]++
    this.#sayGoodbye(code)
    this.#hangUp()
  }

  /** Sends what waits, and closes the connection. Discards what still comes, so that the client gets to read the GOAWAY. */
  #hangUp(): void {
    this.output.flush()
    this.#stop()
    if (this.socket.destroyed) return
    endGently(this.socket)
    this.socket.destroySoon()
  }

  #stop(): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#silence)
    clearTimeout(this.#patience)
    const open = [...this.#streams.values(), ...this.#leaving]
    this.#streams.clear()
    this.#leaving = []
    // Not begun, and nobody is there to hear of it.
    this.#fresh = undefined
    for (const res of open) this.#abort(res)
  }
}

const NO_BYTES = Buffer.alloc(0)

/** @throws ConnectionError FRAME_SIZE_ERROR for a frame that is longer than allowed */
function payloadLength(bytes: Buffer, head: number): number {
  const length = (bytes[head]! << 16) | (bytes[head + 1]! << 8) | bytes[head + 2]!
  need(length <= MAX_FRAME, ErrorCode.FrameSize)
  return length
}

function dependsOn(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) & MAX_WINDOW
}

/** @throws ConnectionError unless the condition holds */
function need(condition: boolean, code = ErrorCode.Protocol): void {
  if (!condition) throw new ConnectionError(code)
}

type Bucket = (tokens?: number) => boolean

/** Creates a token bucket. Each call takes a token, or gives some back if negative; it returns false when none is left. */
function bucket(burst: number, rate: number): Bucket {
  let left = burst
  let at = performance.now()
  return (tokens = 1) => {
    const now = performance.now()
    left = Math.min(burst, left + ((now - at) * rate) / 1000 - Math.min(tokens, 0))
    at = now
    if (tokens < 0) return true
    if (left < 1) return false
    left -= tokens
    return true
  }
}
