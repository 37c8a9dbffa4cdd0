import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Refusal } from '../../errors.js'
import { dropFraming, type Head, readHead } from '../../upstream/http1/head.js'
import type { Exchange } from '../exchange/exchange.js'
import { clientHeaders, hasNoBody } from '../forward/upstream-response.js'

/** Appended to the key for Sec-WebSocket-Accept (RFC 6455 §1.3). */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
/** 16 bytes in base64. */
const KEY = /^[A-Za-z0-9+/]{22}==$/
const VERSION = '13'

/** Checks an upgrade request (RFC 6455 §4.2.1) apart from its route, before anything is charged for it. */
export function checkHandshake(x: Exchange): Refusal | undefined {
  const { headers } = x
  if (x.method !== 'GET' || headers.upgrade !== 'websocket') return { code: 'upgrade_not_supported' }
  if (!x.route!.websocket.enabled) {
    return {
      code: 'upgrade_not_supported',
      detail: 'This route accepts no WebSocket; send a plain HTTP request without Upgrade.',
    }
  }
  // Node reads no body of an upgrade: an announced body would be taken for frames.
  if (headers.contentLength > 0 || headers.chunked) return malformed('may not have a body')
  const keys = fields(headers.forward, 'sec-websocket-key')
  if (keys.length !== 1 || !KEY.test(keys[0]!))
    return malformed('needs one Sec-WebSocket-Key of 16 bytes in base64')
  const versions = fields(headers.forward, 'sec-websocket-version')
  if (versions.length !== 1) return malformed('needs one Sec-WebSocket-Version')
  if (versions[0] !== VERSION) {
    return {
      code: 'upgrade_required',
      headers: ['Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', VERSION],
    }
  }
  return undefined
}

function malformed(what: string): Refusal {
  return { code: 'bad_request', detail: `A WebSocket handshake ${what} (RFC 6455 section 4.1).` }
}

function fields(list: readonly string[], name: string): string[] {
  return list.filter((_, i) => i % 2 === 1 && list[i - 1]!.toLowerCase() === name)
}

/** Returns the fault of the upstream's 101, or undefined. The 101 has to answer this very handshake (RFC 6455 §4.1). */
export function acceptanceFault(x: Exchange, answer: IncomingMessage): string | undefined {
  if (answer.headers.upgrade?.toLowerCase() !== 'websocket')
    return 'the 101 is for a protocol other than websocket'
  const [key] = fields(x.headers.forward, 'sec-websocket-key')
  const accept = createHash('sha1')
    .update(key! + GUID)
    .digest('base64')
  return answer.headers['sec-websocket-accept'] === accept
    ? undefined
    : 'the 101 has a Sec-WebSocket-Accept that does not match'
}

/**
 * Builds the fields of the upstream's response for the client: with what the gateway adds, without those of the hop.
 *
 * @returns a text for the log that says why, if the response cannot be passed on
 */
export function answerFields(x: Exchange, answer: IncomingMessage): string[] | string {
  const { statusCode } = answer
  const head = strictHead(answer)
  if (typeof head === 'string') return head
  if (head.unclear !== undefined) {
    if (statusCode !== 101 && !hasNoBody(statusCode!)) return head.unclear
    dropFraming(head.fields)
  }
  return clientHeaders(x, statusCode!, head.fields)
}

/**
 * Parses the response's head again, by the rules for every other response: Node accepts a status of two digits, and any
 * coding.
 */
function strictHead({ httpVersion, statusCode, statusMessage, rawHeaders }: IncomingMessage): Head | string {
  const status = String(statusCode).padStart(3, '0')
  let text = `HTTP/${httpVersion} ${status} ${statusMessage}\r\n`
  for (let i = 0; i < rawHeaders.length; i += 2) text += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`
  return readHead(text, text.length - 2)
}
