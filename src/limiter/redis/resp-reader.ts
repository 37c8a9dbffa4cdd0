/** State of a reader of replies on a Redis connection. `createRespReader` makes it, and `readReply` advances it. */
export interface RespReader {
  /** Longest reply that is read, in bytes. */
  readonly most: number
  /** First byte of the reply that is being read, or was read last. */
  type: number
  /** Bytes of that reply before the next chunk; 0 if the next byte begins one. */
  size: number
  phase: number
  /** First byte of the value that is being read: the reply, or an item in it. */
  kind: number
  number: number
  digits: number
  /** Byte of a sign; 0 for none. */
  sign: number
  /** Remaining bytes of a string. */
  body: number
  /** Values that lengths have announced and that have not begun. */
  announced: number
  depth: number
  /** Remaining items of each array around the value. */
  readonly items: number[]
}

/**
 * Thrown on bytes that are not a Redis reply, or on one that is too long. The message says what is wrong, for an
 * operator.
 */
export class RespError extends Error {}

/** Deepest array that is read. The replies that Tidegate requests are nested four deep at most (CLUSTER SLOTS). */
const DEEPEST = 16
/** Longest length, integer or big number, in digits. A big number is unbounded, and read in quadratic time. */
const MOST_DIGITS = 64
/** Size of the shortest value in bytes: `_\r\n`. */
const SHORTEST = 3

// Phases of a reader: the part of a value that the next byte belongs to.
const TYPE = 0
const DIGITS = 1
const LINE = 2
const FEED = 3
const BODY = 4
const BODY_END = 5
const BODY_FEED = 6
const EMPTY = 7
const TRUTH = 8

const CR = 13
const LF = 10
const PLUS = 43
const MINUS = 45
const ZERO = 48

export const ARRAY = 42
export const ERROR = 45
export const PUSH = 62
const BULK = 36
const BLOB_ERROR = 33
const VERBATIM = 61
const SET = 126
const MAP = 37
const INTEGER = 58
const BIG_NUMBER = 40
const DOUBLE = 44
const NULL = 95
const BOOLEAN = 35

/** Types that begin with a length. */
const LENGTHS = [BULK, BLOB_ERROR, VERBATIM, ARRAY, SET, MAP, PUSH]

/** Phase after the first byte of a value; TYPE for a byte that begins none. */
const FIRST_PHASE = new Uint8Array(256).fill(TYPE)
for (const kind of [INTEGER, BIG_NUMBER, ...LENGTHS]) FIRST_PHASE[kind] = DIGITS
for (const kind of [PLUS, ERROR, DOUBLE]) FIRST_PHASE[kind] = LINE
FIRST_PHASE[NULL] = EMPTY
FIRST_PHASE[BOOLEAN] = TRUTH

/**
 * Creates a reader.
 *
 * @param most longest reply that is read, in bytes
 */
export function createRespReader(most: number): RespReader {
  return {
    most,
    type: 0,
    size: 0,
    phase: TYPE,
    kind: 0,
    number: 0,
    digits: 0,
    sign: 0,
    body: 0,
    announced: 0,
    depth: 0,
    items: new Array<number>(DEEPEST).fill(0),
  }
}

/**
 * Reads to the end of one reply, in RESP2 or RESP3 (https://redis.io/docs/latest/develop/reference/protocol-spec/).
 * Checks types and lengths only, and keeps no bytes. A length that would exceed `most` is refused when it is announced.
 * After an error the reader is unusable.
 *
 * @returns offset of the reply's end in the chunk; -1 if it is not in this chunk
 * @throws RespError
 */
export function readReply(reader: RespReader, chunk: Uint8Array, from: number): number {
  const end = chunk.length
  let at = from
  while (at < end) {
    switch (reader.phase) {
      case TYPE: {
        const kind = chunk[at++]!
        if (reader.depth === 0) reader.type = kind
        else reader.announced--
        // Nearly all replies are complete integers, which need none of the state.
        const after = kind === INTEGER ? afterInteger(chunk, at, end) : -1
        if (after < 0) begin(reader, kind)
        else {
          at = after
          if (isWhole(reader)) return endOf(reader, at, from)
        }
        break
      }
      case DIGITS:
        at = readDigits(reader, chunk, at)
        break
      case LINE: {
        const cr = chunk.indexOf(CR, at)
        if (cr >= 0) reader.phase = FEED
        at = cr < 0 ? end : cr + 1
        break
      }
      case TRUTH: {
        const byte = chunk[at++]
        if (byte !== 116 && byte !== 102) throw new RespError('a boolean is neither true nor false')
        reader.phase = EMPTY
        break
      }
      case EMPTY:
        if (chunk[at++] !== CR) throw new RespError('a line does not end where it should')
        reader.phase = FEED
        break
      case BODY: {
        const here = Math.min(reader.body, end - at)
        at += here
        reader.body -= here
        if (reader.body === 0) reader.phase = BODY_END
        break
      }
      case BODY_END:
        if (chunk[at++] !== CR) throw new RespError('a string does not end where it should')
        reader.phase = BODY_FEED
        break
      default:
        // FEED and BODY_FEED
        if (chunk[at++] !== LF) throw new RespError('a line does not end where it should')
        if (reader.phase === FEED && LENGTHS.includes(reader.kind) && hasBegun(reader, at - from)) break
        reader.phase = TYPE
        if (isWhole(reader)) return endOf(reader, at, from)
    }
  }
  reader.size += at - from
  if (reader.size > reader.most) throw tooLong(reader)
  return -1
}

/** Returns the offset after an integer and its line break; -1 if it is incomplete, or needs a closer check. */
function afterInteger(chunk: Uint8Array, from: number, end: number): number {
  const most = Math.min(end, from + MOST_DIGITS)
  for (let at = from; at < most; at++) {
    const byte = chunk[at]!
    if (byte >= ZERO && byte < ZERO + 10) continue
    return at > from && byte === CR && at + 1 < end && chunk[at + 1] === LF ? at + 2 : -1
  }
  return -1
}

function endOf(reader: RespReader, at: number, from: number): number {
  if (reader.size + at - from > reader.most) throw tooLong(reader)
  reader.size = 0
  return at
}

function begin(reader: RespReader, kind: number): void {
  const phase = FIRST_PHASE[kind]!
  if (phase === TYPE) throw new RespError(`no reply begins with the byte ${kind}`)
  if (kind === PUSH && reader.depth > 0) throw new RespError('a reply has a message inside it')
  reader.kind = kind
  reader.phase = phase
  reader.number = 0
  reader.digits = 0
  reader.sign = 0
}

function readDigits(reader: RespReader, chunk: Uint8Array, from: number): number {
  for (let at = from; at < chunk.length; at++) {
    const digit = chunk[at]! - ZERO
    if (digit >= 0 && digit <= 9) {
      reader.number = reader.number * 10 + digit
      if (++reader.digits > MOST_DIGITS) throw new RespError('a number has too many digits')
    } else if (digit === CR - ZERO && reader.digits > 0) {
      reader.phase = FEED
      return at + 1
    } else if (reader.digits === 0 && reader.sign === 0 && maySign(reader.kind, digit + ZERO)) {
      reader.sign = digit + ZERO
    } else throw new RespError('a number has a character that is not a digit')
  }
  return chunk.length
}

/** Returns true if a sign is allowed. Only `$-1` and `*-1`, which are null in RESP2, are lengths with a sign. */
function maySign(kind: number, byte: number): boolean {
  if (kind === INTEGER || kind === BIG_NUMBER) return byte === MINUS || byte === PLUS
  return byte === MINUS && (kind === BULK || kind === ARRAY)
}

/**
 * Returns true if the value continues after its length.
 *
 * @param here bytes of the reply in this chunk so far
 */
function hasBegun(reader: RespReader, here: number): boolean {
  const { kind, number } = reader
  if (reader.sign !== 0) {
    if (number !== 1 || reader.digits !== 1) throw new RespError('a length is negative')
    return false
  }
  if (kind === BULK || kind === BLOB_ERROR || kind === VERBATIM) {
    if (kind === VERBATIM && number < 4) throw new RespError('a string is too short for its format')
    reader.body = number
    reader.phase = number === 0 ? BODY_END : BODY
    if (reader.size + here + number > reader.most) throw tooLong(reader)
    return true
  }
  const items = kind === MAP ? 2 * number : number
  if (items === 0) return false
  if (reader.depth === DEEPEST) throw new RespError(`a reply is nested more than ${DEEPEST} deep`)
  reader.announced += items
  if (reader.size + here + reader.announced * SHORTEST > reader.most) throw tooLong(reader)
  reader.items[reader.depth++] = items
  reader.phase = TYPE
  return true
}

/** Returns true if the value that has just ended is the last of the reply. */
function isWhole(reader: RespReader): boolean {
  while (reader.depth > 0) {
    if (--reader.items[reader.depth - 1]! > 0) return false
    reader.depth--
  }
  return true
}

function tooLong({ most }: RespReader): RespError {
  return new RespError(`a reply is longer than ${most} bytes`)
}

/** Longest integer that `readIntegers` reads, in digits: those of 2^53 - 1. */
const INTEGER_DIGITS = 16
/** Longest length of an array that `readIntegers` reads, in digits. */
const LENGTH_DIGITS = 6
/** Size of the shortest integer in bytes: `:0\r\n`. */
const SHORTEST_INTEGER = 4

/** Stands for a digit behind the end of the chunk. */
const END = -1

/** Integers of a reply that `readIntegers` read. */
export interface Integers {
  values: number[]
  /** Offset after the reply. */
  end: number
}

/**
 * Reads a reply that is an array of integers and ends in this chunk: nearly every reply to a take. It never refuses a
 * reply: whatever is unusual is left to `readReply`. An integer above 2^53 - 1 is read as some other one above that.
 *
 * @param into gets the integers
 * @returns false if the reply is something else, or incomplete
 */
export function readIntegers(chunk: Uint8Array, from: number, into: Integers): boolean {
  const size = chunk.length
  if (chunk[from] !== ARRAY) return false
  let at = from + 1
  const digits = at
  let length = 0
  let digit = at < size ? chunk[at]! - ZERO : END
  while (digit >= 0 && digit <= 9) {
    length = length * 10 + digit
    digit = ++at < size ? chunk[at]! - ZERO : END
  }
  if (at === digits || at - digits > LENGTH_DIGITS || !isLineEnd(chunk, at)) return false
  at += 2
  if (length * SHORTEST_INTEGER > size - at) return false
  const values = new Array<number>(length)
  for (let i = 0; i < length; i++) {
    if (at + SHORTEST_INTEGER > size || chunk[at] !== INTEGER) return false
    const isNegative = chunk[++at] === MINUS
    if (isNegative) at++
    const first = at
    let value = 0
    digit = chunk[at]! - ZERO
    while (digit >= 0 && digit <= 9) {
      value = value * 10 + digit
      digit = ++at < size ? chunk[at]! - ZERO : END
    }
    if (at === first || at - first > INTEGER_DIGITS || !isLineEnd(chunk, at)) return false
    at += 2
    values[i] = isNegative ? -value : value
  }
  into.values = values
  into.end = at
  return true
}

function isLineEnd(chunk: Uint8Array, at: number): boolean {
  return at + 1 < chunk.length && chunk[at] === CR && chunk[at + 1] === LF
}

/** Value of Redis. Anything but an array, string or integer is undefined. */
export type RespValue<Text = string> = readonly RespValue<Text>[] | Text | number | null | undefined

/** Decodes one complete reply, as `readReply` found it. Strings are taken as UTF-8. */
export function decodeReply(reply: Buffer): RespValue {
  return decode(reply, (from, to) => reply.toString('utf8', from, to))
}

/** Decodes one complete reply. Strings are left as bytes, which belong to `reply`. */
export function decodeBytes(reply: Buffer): RespValue<Buffer> {
  return decode(reply, (from, to) => reply.subarray(from, to))
}

function decode<Text>(reply: Buffer, textOf: (from: number, to: number) => Text): RespValue<Text> {
  let at = 0

  function value(): RespValue<Text> {
    const kind = reply[at++]!
    const from = at
    const cr = reply.indexOf(CR, at)
    at = cr + 2
    if (kind === PLUS) return textOf(from, cr)
    const line = reply.toString('latin1', from, cr)
    switch (kind) {
      case INTEGER:
        return Number(line)
      case NULL:
        return null
      case BULK:
      case BLOB_ERROR:
      case VERBATIM: {
        const length = Number(line)
        if (length < 0) return null
        at += length + 2
        return kind === BULK ? textOf(at - length - 2, at - 2) : undefined
      }
      case ARRAY:
      case PUSH:
        return line === '-1' ? null : Array.from({ length: Number(line) }, value)
      case SET:
      case MAP:
        for (let left = (kind === MAP ? 2 : 1) * Number(line); left > 0; left--) value()
    }
    return undefined
  }

  return value()
}
