import { coded } from '../sender.js'
import { Chunks } from './chunks.js'
import { isBroken } from './fields.js'
import { dropFraming, type Head, mayBegin, readHead } from './head.js'

/** Most bytes in the head of a response, status line included. */
const MAX_HEAD = 16_384
/** Most bytes of empty lines before the head. */
const MAX_BLANK = 8
const CR = 0x0d
const LF = 0x0a
/** Bytes that are decoded as text at first: most heads are no longer. */
const USUAL_HEAD = 1_024

/** Receives the parts of responses in order. */
export interface ReaderEvents {
  /** The first byte of a head has arrived. */
  started(): void
  /** A head has arrived; also for a 1xx. */
  head(head: Head): void
  /** A part of the body has arrived. The bytes are overwritten once this returns. */
  data(bytes: Buffer, from: number, to: number): void
}

enum At {
  Nothing,
  Head,
  Length,
  Chunks,
  /** The body ends with the connection. */
  Close,
}

/**
 * Reads the responses of one connection, one for each request, however the network splits them. A response that
 * violates RFC 9112, or that two readers could understand differently, is an error; nothing after it is read.
 */
export class ResponseReader {
  /** True if the response is complete. */
  ended = false
  /** Name, value, … of the latest response. */
  trailers: string[] | null = null
  /** True if the latest response allows the connection to be reused. */
  keepAlive = false
  /** As in a head. */
  idleSeconds = -1
  #at = At.Nothing
  #bodiless = false
  /** Text of an incomplete head. */
  #text = ''
  #left = 0
  /** Bytes of empty lines before the head. */
  #blank = 0
  #chunks: Chunks | undefined

  constructor(private readonly events: ReaderEvents) {}

  /**
   * Prepares for a response.
   *
   * @param bodiless true if it has no body, whatever its headers say: the response to HEAD
   */
  expect(bodiless: boolean): void {
    this.#at = At.Head
    this.#bodiless = bodiless
    this.#text = ''
    this.#blank = 0
    this.ended = false
    this.trailers = null
  }

  /** Returns true if the next byte is the first of a response. */
  get fresh(): boolean {
    return this.#at === At.Head && this.#text === '' && this.#blank === 0
  }

  /** Notes that a response was read elsewhere, as a whole. */
  skip(idleSeconds: number): void {
    this.#at = At.Nothing
    this.ended = true
    this.keepAlive = true
    this.idleSeconds = idleSeconds
  }

  /**
   * Reads bytes. May write into them.
   *
   * @returns where in the bytes the response ends, or their end
   * @throws when they are not a valid response
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
          this.events.data(bytes, at, end)
          at = end
          if (this.#left === 0) this.#end()
          break
        }
        case At.Chunks: {
          const chunks = this.#chunks!
          const end = chunks.read(bytes, at, size)
          if (end > at) this.events.data(bytes, at, end)
          if (chunks.wrong !== undefined) throw malformed(chunks.wrong)
          at = chunks.end
          if (chunks.ended) {
            this.trailers = chunks.trailers
            this.#end()
          }
          break
        }
        case At.Close:
          this.events.data(bytes, at, size)
          return size
        default:
          return at
      }
      if (this.ended) return at
    }
    return at
  }

  /**
   * Handles the end of the input.
   *
   * @returns true if that completes the response
   */
  close(): boolean {
    if (this.#at !== At.Close) return false
    this.#end()
    return true
  }

  /**
   * Reads the head.
   *
   * @returns where it ends, or the end of the bytes
   */
  #readHead(bytes: Buffer, at: number, to: number): number {
    let from = at
    const before = this.#text.length
    if (before === 0) {
      if (bytes[from] === CR || this.#blank % 2 === 1) {
        const start = this.#skipBlank(bytes, from, to)
        if (start === to) return to
        from = start
      }
      this.events.started()
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

  /**
   * Skips empty lines before a head, which some servers leave after the response before.
   *
   * @returns where they end
   */
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
      // No request asks for it. An unrequested 100 means nothing (RFC 9110 §15.2).
      if (status === 101) throw malformed('a 101 that the gateway did not ask for')
      // A 1xx of HTTP/1.0, or with `Connection: close`.
      if (!head.keepAlive) throw malformed('a 1xx that closes the connection')
      this.events.head(head)
      return
    }
    // They end with their head, whatever their headers say about a body (RFC 9112 §6.3).
    const headOnly = this.#bodiless || status === 204 || status === 304
    if (unclear !== undefined) {
      if (!headOnly) throw malformed(unclear)
      dropFraming(head.fields)
    }
    const bodiless = headOnly || length === 0
    // If the server sends that body after all, it would become the response to the next request.
    const doubtful = headOnly && (chunked || length > 0 || unclear !== undefined)
    this.keepAlive = head.keepAlive && !doubtful && (bodiless || chunked || length > 0)
    this.idleSeconds = head.idleSeconds
    this.events.head(head)
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
