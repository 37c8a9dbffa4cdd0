import { coded } from '../sender.js'
import { Chunks } from './chunks.js'
import { isBroken } from './fields.js'
import { dropFraming, type Head, mayBegin, readHead } from './head.js'

/** Longest head of a response, status line and all. */
const MAX_HEAD = 16_384
/** Bytes of the empty lines in front of it. */
const MAX_BLANK = 8
const CR = 0x0d
const LF = 0x0a
/** Most heads are no longer: so much is turned into text at first. */
const USUAL_HEAD = 1_024

/** Told of what comes, in its order. */
export interface ReaderEvents {
  /** The first byte of a head. */
  started(): void
  /** A 1xx, too. */
  head(head: Head): void
  /** A part of the body. The bytes are somebody else's as soon as this returns. */
  data(bytes: Buffer, from: number, to: number): void
}

enum At {
  Nothing,
  Head,
  Length,
  Chunks,
  /** A body that only the end of the connection ends. */
  Close,
}

/**
 * Reads the responses of one connection, one to each request, cut in whatever way they come. A response that is not what
 * RFC 9112 says, or that two readers could understand differently, is an error, and nothing after it is read.
 */
export class ResponseReader {
  /** The response is complete. */
  ended = false
  /** Name, value, …; of the latest response. */
  trailers: string[] | null = null
  /** The connection may be used again, as far as that is for the latest response to say. */
  keepAlive = false
  /** As in a head. */
  idleSeconds = -1
  readonly #events: ReaderEvents
  #at = At.Nothing
  #bodiless = false
  /** Of a head that is not all here. */
  #text = ''
  #left = 0
  /** Bytes of empty lines in front of the head. */
  #blank = 0
  #chunks: Chunks | undefined

  constructor(events: ReaderEvents) {
    this.#events = events
  }

  /** A response is to come. @param bodiless it will have no body, whatever its head says: to HEAD */
  expect(bodiless: boolean): void {
    this.#at = At.Head
    this.#bodiless = bodiless
    this.#text = ''
    this.#blank = 0
    this.ended = false
    this.trailers = null
  }

  /**
   * Reads what has come. It may write into the bytes.
   *
   * @returns where in the bytes the response ends, or all that there are
   * @throws when they are no response
   */
  read(bytes: Buffer, size: number): number {
    let at = 0
    while (at < size) {
      switch (this.#at) {
        case At.Head:
          at = this.#readHead(bytes, at, size)
          break
        case At.Length: {
          const end = Math.min(size, at + this.#left)
          this.#left -= end - at
          this.#events.data(bytes, at, end)
          at = end
          if (this.#left === 0) this.#end()
          break
        }
        case At.Chunks: {
          const chunks = this.#chunks!
          const end = chunks.read(bytes, at, size)
          if (end > at) this.#events.data(bytes, at, end)
          if (chunks.wrong !== undefined) throw malformed(chunks.wrong)
          at = chunks.end
          if (chunks.ended) {
            this.trailers = chunks.trailers
            this.#end()
          }
          break
        }
        case At.Close:
          this.#events.data(bytes, at, size)
          return size
        default:
          return at
      }
      if (this.ended) return at
    }
    return at
  }

  /** The other side has sent all that it will. @returns whether that is what the response waited for */
  close(): boolean {
    if (this.#at !== At.Close) return false
    this.#end()
    return true
  }

  /** @returns where the head ends, or all that there is */
  #readHead(bytes: Buffer, at: number, to: number): number {
    let from = at
    const before = this.#text.length
    if (before === 0) {
      if (bytes[from] === CR || this.#blank % 2 === 1) {
        const start = this.#skipBlank(bytes, from, to)
        if (start === to) return to
        from = start
      }
      this.#events.started()
    }
    let upTo = Math.min(to, from + USUAL_HEAD)
    let text = this.#text + bytes.toString('latin1', from, upTo)
    let end = text.indexOf('\r\n\r\n')
    if (end < 0 && upTo < to) {
      upTo = Math.min(to, from + MAX_HEAD)
      text = this.#text + bytes.toString('latin1', from, upTo)
      end = text.indexOf('\r\n\r\n')
    }
    if (end < 0) {
      if (!mayBegin(text)) throw malformed('it is not HTTP/1.1')
      if (text.length >= MAX_HEAD) throw malformed('the head is larger than 16 KiB')
      if (isBroken(text)) throw malformed('a line of the head is malformed')
      this.#text = text
      return to
    }
    if (end + 4 > MAX_HEAD) throw malformed('the head is larger than 16 KiB')
    const head = readHead(text, end)
    if (typeof head === 'string') throw malformed(head)
    this.#text = ''
    this.#begin(head)
    return from + end + 4 - before
  }

  /** Skips empty lines in front of a head, which some servers leave behind what they sent before. @returns where they end */
  #skipBlank(bytes: Buffer, from: number, to: number): number {
    let at = from
    while (at < to && bytes[at] === (this.#blank % 2 === 0 ? CR : LF)) {
      at++
      this.#blank++
    }
    if (this.#blank > MAX_BLANK || (this.#blank % 2 === 1 && at < to)) throw malformed('it is not HTTP/1.1')
    return at
  }

  #begin(head: Head): void {
    const { status, length, chunked, unclear } = head
    if (status < 200) {
      // Nothing was sent that asks for it. A 100 that nobody asked for means nothing (RFC 9110 §15.2).
      if (status === 101) throw malformed('a 101 that nobody asked for')
      // Of HTTP/1.0, or with `Connection: close`.
      if (!head.keepAlive) throw malformed('a 1xx that says it is the last')
      this.#events.head(head)
      return
    }
    // They end with their head, whatever that says of a body (RFC 9112 §6.3).
    const headOnly = this.#bodiless || status === 204 || status === 304
    if (unclear !== undefined) {
      if (!headOnly) throw malformed(unclear)
      dropFraming(head.fields)
    }
    const bodiless = headOnly || length === 0
    // A server that sends that body after all would answer the next request with it.
    const doubtful = headOnly && (chunked || length > 0 || unclear !== undefined)
    this.keepAlive = head.keepAlive && !doubtful && (bodiless || chunked || length > 0)
    this.idleSeconds = head.idleSeconds
    this.#events.head(head)
    if (bodiless) this.#end()
    else if (chunked) {
      this.#at = At.Chunks
      this.#chunks = new Chunks()
    } else if (length > 0) {
      this.#at = At.Length
      this.#left = length
    } else this.#at = At.Close
  }

  #end(): void {
    this.#at = At.Nothing
    this.#chunks = undefined
    this.ended = true
  }
}

function malformed(what: string): Error {
  return coded('UPSTREAM_MALFORMED', `the response is malformed: ${what}`)
}
