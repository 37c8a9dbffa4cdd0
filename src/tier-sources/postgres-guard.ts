import type { Socket } from 'node:net'
import type { Client } from 'pg'
import { guardPush } from '../net/guard-push.js'

/**
 * Longest answer to one query, and longest message, in bytes. A query for a tier returns a row with two short texts. A
 * longer answer means that the query has no WHERE, or that the server is not PostgreSQL.
 */
export const LONGEST_ANSWER = 1024 * 1024

const TYPE_AND_LENGTH = 5
/** Pieces of a message that are kept before they are joined. */
const MOST_PIECES = 256
const NUL = 0

/** Members of pg's connection that are used here and missing in its types. */
interface Connection {
  readonly stream: Socket
  attachListeners(stream: Socket): void
  on(event: 'error' | 'errorMessage' | 'readyForQuery', listener: () => void): void
}

/**
 * Makes a pg client end its connection, instead of the process, when the server sends what pg cannot handle: a message
 * whose content is cut off (pg would read on in the next one, or search for its end for ever), an answer longer than
 * `LONGEST_ANSWER`, or a message that pg throws on, such as a request for Kerberos, GSS or SSPI. pg parses and handles
 * a message in the turn in which it is read, so an error that it throws belongs to the connection being read.
 *
 * @param client has not connected yet
 * @param onBroken called once with what was wrong
 */
export function guardClient(client: Client, onBroken: (what: string) => void): void {
  const { connection } = client as unknown as { connection: Connection }
  const attachListeners = connection.attachListeners
  connection.attachListeners = (stream) => {
    guardMessages(stream, onBroken)
    attachListeners.call(connection, stream)
  }
  // After a failed or refused connection, pg waits for the server to close it.
  let accepted = false
  connection.on('readyForQuery', () => {
    accepted = true
  })
  connection.on('errorMessage', () => {
    if (!accepted) connection.stream.destroy()
  })
  connection.on('error', () => connection.stream.destroy())
}

/** Destroys the connection of a client: a server that does not answer does not say goodbye either. */
export function cut(client: Client): void {
  const { connection } = client as unknown as { connection?: { stream?: { destroy(): void } } }
  connection?.stream?.destroy()
}

function guardMessages(stream: Socket, onBroken: (what: string) => void): void {
  const read = createMessageReader()
  const pass = (chunk: Buffer): boolean => {
    const messages = read(chunk)
    return messages === undefined || push(messages)
  }
  const push = guardPush(stream, pass, onBroken)
}

/**
 * Assembles messages from chunks (https://www.postgresql.org/docs/current/protocol-message-formats.html).
 *
 * @returns a function that reads a chunk and returns the messages that are complete, if any; it throws on a malformed
 *   one
 */
function createMessageReader(): (chunk: Buffer) => Buffer | undefined {
  let pieces: Buffer[] = []
  let held = 0
  /** Bytes that are needed before reading can go on. */
  let needed = TYPE_AND_LENGTH
  let answer = 0

  return (chunk) => {
    pieces.push(chunk)
    held += chunk.length
    if (held < needed && pieces.length <= MOST_PIECES) return undefined
    const bytes = pieces.length === 1 ? chunk : Buffer.concat(pieces)
    let at = 0
    needed = TYPE_AND_LENGTH
    while (bytes.length - at >= TYPE_AND_LENGTH) {
      const length = bytes.readUInt32BE(at + 1)
      const type = String.fromCharCode(bytes[at]!)
      const end = at + 1 + length
      if (length < 4) throw new Error('a message has an invalid length')
      if (Math.max(length, answer) > LONGEST_ANSWER)
        throw new Error(`an answer is longer than ${LONGEST_ANSWER} bytes`)
      if (end > bytes.length) {
        needed = end - at
        break
      }
      if (!SHAPES[type]?.(bytes.subarray(at + TYPE_AND_LENGTH, end)))
        throw new Error(`a message of type ${JSON.stringify(type)} is malformed or unexpected`)
      answer = type === 'Z' ? 0 : answer + (ASIDE.has(type) ? 0 : length)
      at = end
    }
    held = bytes.length - at
    pieces = held === 0 ? [] : [bytes.subarray(at)]
    return at === 0 ? undefined : bytes.subarray(0, at)
  }
}

/** Notification, notice and parameter messages: a server sends them at any time, and pg keeps none of them. */
const ASIDE: ReadonlySet<string> = new Set(['A', 'N', 'S'])

const SASL = 10
const isEmpty = (body: Buffer) => body.length === 0

/**
 * Returns true if the body of a message matches its type to the last byte, by type. Messages that only COPY and
 * replication send are not expected.
 */
const SHAPES: Readonly<Record<string, (body: Buffer) => boolean>> = {
  1: isEmpty,
  2: isEmpty,
  3: isEmpty,
  I: isEmpty,
  n: isEmpty,
  s: isEmpty,
  Z: (body) => body.length === 1,
  K: (body) => body.length >= 8,
  C: (body) => endsAfterTexts(body, 0, 1),
  S: (body) => endsAfterTexts(body, 0, 2),
  A: (body) => endsAfterTexts(body, 4, 2),
  E: (body) => isListOfTexts(body, 0),
  N: (body) => isListOfTexts(body, 0),
  R: (body) => body.length >= 4 && (body.readInt32BE(0) !== SASL || isListOfTexts(body, 4)),
  t: (body) => body.length >= 2 && body.length === 2 + 4 * body.readUInt16BE(0),
  T: areColumns,
  D: areCells,
}

/** Size of a column description after its name, in bytes. */
const COLUMN = 18

/** Returns the offset after the text that begins at `at`; NaN if the text does not end. */
function afterText(body: Buffer, at: number): number {
  const end = at <= body.length ? body.indexOf(NUL, at) : -1
  return end < 0 ? Number.NaN : end + 1
}

function endsAfterTexts(body: Buffer, from: number, count: number): boolean {
  let at = from
  for (let i = 0; i < count; i++) at = afterText(body, at)
  return at === body.length
}

/**
 * Returns true for a list of non-empty texts that an empty one ends. The texts of an error begin with the type of a
 * field.
 */
function isListOfTexts(body: Buffer, from: number): boolean {
  let at = from
  while (at < body.length && body[at] !== NUL) at = afterText(body, at)
  return at === body.length - 1
}

function areColumns(body: Buffer): boolean {
  if (body.length < 2) return false
  let at = 2
  for (let left = body.readUInt16BE(0); left > 0 && at <= body.length; left--)
    at = afterText(body, at) + COLUMN
  return at === body.length
}

function areCells(body: Buffer): boolean {
  if (body.length < 2) return false
  let at = 2
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    if (at + 4 > body.length) return false
    const length = body.readInt32BE(at)
    if (length < -1) return false
    at += 4 + Math.max(0, length)
  }
  return at === body.length
}
