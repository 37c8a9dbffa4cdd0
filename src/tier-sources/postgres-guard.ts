import type { Socket } from 'node:net'
import type { Client } from 'pg'

/**
 * Bytes that a server may send in answer to one query, and of one message. A query for a tier gives a row with two short
 * texts, so an answer that is longer is a query without a WHERE, or no PostgreSQL.
 */
export const LONGEST_ANSWER = 1024 * 1024

const TYPE_AND_LENGTH = 5
/** Pieces of a message that are kept apart. */
const MOST_PIECES = 256
const NUL = 0

/** What is used of pg's connection, which is not in its types. */
interface Connection {
  readonly stream: Socket
  attachListeners(stream: Socket): void
  on(event: 'error' | 'errorMessage' | 'readyForQuery', listener: () => void): void
}

/**
 * Makes a client of pg end its connection, instead of the process, when its server sends what pg cannot take: a message
 * whose content is cut (pg would read on in the next one, or look for its end for ever), an answer longer than
 * `LONGEST_ANSWER`, or what pg throws on, such as a request for Kerberos, GSS or SSPI. pg parses and handles a message in the turn
 * in which it is read, so what it throws belongs to the connection that is being read.
 *
 * @param client has not connected yet
 * @param onBroken is told once, what was wrong
 */
export function guardClient(client: Client, onBroken: (what: string) => void): void {
  const { connection } = client as unknown as { connection: Connection }
  const attachListeners = connection.attachListeners
  connection.attachListeners = (stream) => {
    guardMessages(stream, onBroken)
    attachListeners.call(connection, stream)
  }
  // pg waits for the server to close a connection that has failed, or that it has refused.
  let accepted = false
  connection.on('readyForQuery', () => {
    accepted = true
  })
  connection.on('errorMessage', () => {
    if (!accepted) connection.stream.destroy()
  })
  connection.on('error', () => connection.stream.destroy())
}

function guardMessages(stream: Socket, onBroken: (what: string) => void): void {
  const push = stream.push
  const read = createMessageReader()
  let broken = false
  stream.push = (chunk: Buffer | null) => {
    if (broken) return false
    if (chunk === null) return push.call(stream, null)
    try {
      const messages = read(chunk)
      return messages === undefined || push.call(stream, messages)
    } catch (error) {
      broken = true
      onBroken((error as Error).message)
      stream.destroy(error as Error)
      return false
    }
  }
}

/**
 * Puts messages together (https://www.postgresql.org/docs/current/protocol-message-formats.html).
 *
 * @returns reads a chunk, and returns the messages that are whole by now, if any; throws on one that is wrong
 */
function createMessageReader(): (chunk: Buffer) => Buffer | undefined {
  let pieces: Buffer[] = []
  let held = 0
  /** Bytes that must be there to go on. */
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
      if (length < 4) throw new Error('a message has a length that is none')
      if (Math.max(length, answer) > LONGEST_ANSWER)
        throw new Error(`an answer is longer than ${LONGEST_ANSWER} bytes`)
      if (end > bytes.length) {
        needed = end - at
        break
      }
      if (!hasShape(type, bytes.subarray(at + TYPE_AND_LENGTH, end)))
        throw new Error(`a message of type ${JSON.stringify(type)} is malformed, or nobody expects it`)
      answer = type === 'Z' ? 0 : answer + (ASIDE.has(type) ? 0 : length)
      at = end
    }
    held = bytes.length - at
    pieces = held === 0 ? [] : [bytes.subarray(at)]
    return at === 0 ? undefined : bytes.subarray(0, at)
  }
}

/** Notification, notice, parameter: a server sends them when it likes, and pg keeps none of them. */
const ASIDE: ReadonlySet<string> = new Set(['A', 'N', 'S'])

/** Whether the body of a message is what its type says, to its last byte. What only COPY and replication send is not expected. */
function hasShape(type: string, body: Buffer): boolean {
  switch (type) {
    case '1':
    case '2':
    case '3':
    case 'I':
    case 'n':
    case 's':
      return body.length === 0
    case 'Z':
      return body.length === 1
    case 'K':
      return body.length >= 8
    case 'C':
      return endsAfterTexts(body, 0, 1)
    case 'S':
      return endsAfterTexts(body, 0, 2)
    case 'A':
      return endsAfterTexts(body, 4, 2)
    case 'E':
    case 'N':
      return isListOfTexts(body, 0)
    case 'R':
      return body.length >= 4 && (body.readInt32BE(0) !== SASL || isListOfTexts(body, 4))
    case 't':
      return body.length >= 2 && body.length === 2 + 4 * body.readUInt16BE(0)
    case 'T':
      return areColumns(body)
    case 'D':
      return areCells(body)
  }
  return false
}

const SASL = 10
/** Bytes of a column after its name. */
const COLUMN = 18

/** Offset after the text that begins there; NaN: it does not end. */
function afterText(body: Buffer, at: number): number {
  const end = at <= body.length ? body.indexOf(NUL, at) : -1
  return end < 0 ? Number.NaN : end + 1
}

function endsAfterTexts(body: Buffer, from: number, count: number): boolean {
  let at = from
  for (let i = 0; i < count; i++) at = afterText(body, at)
  return at === body.length
}

/** Texts that are not empty, and one that is. An error's begin with the type of a field. */
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
