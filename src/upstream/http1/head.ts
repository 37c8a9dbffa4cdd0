import { endOfValue, isFraming, readFields } from './fields.js'

/** The head of a response, and the framing of its body. */
export interface Head {
  readonly status: number
  readonly reason: string
  /** Name, value, … */
  readonly fields: string[]
  /** Value of Content-Length; -1 without one. */
  readonly length: number
  readonly chunked: boolean
  /** Reason why the end of the body is ambiguous, in words for the log; undefined if it is clear. */
  readonly unclear: string | undefined
  /** True if the connection may be reused. */
  readonly keepAlive: boolean
  /** Seconds after which the upstream closes an idle connection; -1: it does not say. */
  readonly idleSeconds: number
}

const START = 'HTTP/1.'
/** Offset of the end of `HTTP/1.1 200`. */
const STATUS_END = 12

/** Returns true if a head may begin like this; otherwise there is no use waiting for the rest. */
export function mayBegin(text: string): boolean {
  return text.length < START.length ? START.startsWith(text) : text.startsWith(START)
}

/**
 * Reads the head of a response, status line and headers (RFC 9112 §4, §5). Reports framing that two readers could
 * understand differently: a length next to a coding, more than one of either, a coding other than chunked, a coding in
 * HTTP/1.0.
 *
 * @param text one character per byte
 * @param end offset of the empty line: of the CR LF of the line before it
 * @returns what is wrong, in words for the log
 */
export function readHead(text: string, end: number): Head | string {
  const minor = text.charCodeAt(START.length) - 0x30
  if (!text.startsWith(START) || minor < 0 || minor > 1) return 'it is not HTTP/1.1'
  const status = statusOf(text)
  if (status < 100) return 'the status line is malformed'
  const lineEnd = endOfValue(text, STATUS_END)
  if (text.charCodeAt(lineEnd) !== 0x0d || text.charCodeAt(lineEnd + 1) !== 0x0a)
    return 'the status line is malformed'
  const fields: string[] = []
  if (!readFields(text, lineEnd + 2, end + 2, fields)) return 'a field is malformed'

  let length = -1
  let chunked = false
  let unclear: string | undefined
  let connection: string | undefined
  let idleSeconds = -1
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    switch (name.length) {
      case 10: {
        const lower = name.toLowerCase()
        if (lower === 'connection') {
          const value = fields[i + 1]!.toLowerCase()
          connection = connection === undefined ? value : `${connection},${value}`
        } else if (lower === 'keep-alive') {
          idleSeconds = idleSecondsOf(fields[i + 1]!) ?? idleSeconds
        }
        break
      }
      case 14:
        if (name.toLowerCase() !== 'content-length') break
        if (length >= 0) unclear = 'there is more than one Content-Length'
        length = lengthOf(fields[i + 1]!)
        if (length < 0) unclear = 'the Content-Length is malformed'
        break
      case 17:
        if (name.toLowerCase() !== 'transfer-encoding') break
        if (chunked || fields[i + 1]!.toLowerCase() !== 'chunked')
          unclear = 'a transfer coding that the gateway did not ask for'
        chunked = true
        break
    }
  }
  if (chunked && length >= 0) unclear = 'there is both a Content-Length and a Transfer-Encoding'
  // RFC 9112 §6.1: the sender has the version or the framing wrong.
  if (chunked && minor === 0) unclear = 'HTTP/1.0 has no Transfer-Encoding'
  return {
    status,
    reason: text.slice(STATUS_END + 1, lineEnd),
    fields,
    length,
    chunked,
    unclear,
    keepAlive: keeps(connection, minor),
    idleSeconds,
  }
}

/** Returns the seconds after which the upstream closes an idle connection, from the value of its Keep-Alive. */
export function idleSecondsOf(keepAlive: string): number | undefined {
  const said = /timeout=(\d{1,9})/.exec(keepAlive)
  return said === null ? undefined : Number(said[1])
}

/** Removes the headers that frame the body: when they contradict each other, none can be trusted. */
export function dropFraming(fields: string[]): void {
  for (let i = fields.length - 2; i >= 0; i -= 2) if (isFraming(fields[i]!)) fields.splice(i, 2)
}

/** Returns the status, or -1 when the status line has none at its place. */
function statusOf(text: string): number {
  if (text.charCodeAt(8) !== 0x20) return -1
  let status = 0
  for (let at = 9; at < STATUS_END; at++) {
    const digit = text.charCodeAt(at) - 0x30
    if (!(digit >= 0 && digit <= 9)) return -1
    status = status * 10 + digit
  }
  const next = text.charCodeAt(STATUS_END)
  return next === 0x20 || next === 0x0d ? status : -1
}

/** Parses digits only (RFC 9110 §8.6), few enough to be an exact number; returns -1 for other text. */
function lengthOf(value: string): number {
  if (value.length === 0 || value.length > 15) return -1
  let length = 0
  for (let i = 0; i < value.length; i++) {
    const digit = value.charCodeAt(i) - 0x30
    if (!(digit >= 0 && digit <= 9)) return -1
    length = length * 10 + digit
  }
  return length
}

/** Returns true if the connection stays open (RFC 9112 §9.3). */
function keeps(connection: string | undefined, minor: number): boolean {
  if (connection === undefined) return minor === 1
  if (connection === 'keep-alive') return true
  if (connection === 'close') return false
  const options = connection.split(',').map((option) => option.trim())
  return !options.includes('close') && (minor === 1 || options.includes('keep-alive'))
}
