import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline, Transform } from 'node:stream'
import type { Exchange } from '../exchange/exchange.js'
import { hasNoBody, reasonPhrase } from '../forward/upstream-response.js'
import { bareHead } from '../respond/client-error.js'

/**
 * Passes on an answer other than 101 to a handshake, on the client's bare socket and with framing of its own: by length
 * where the upstream gave one, else in chunks, so that a body that is cut never looks whole.
 *
 * @param fields the header for the client, without the framing
 * @param done called once; with an error when the answer could not be brought to its end
 */
export function relayAnswer(
  x: Exchange,
  answer: IncomingMessage,
  fields: string[],
  socket: Socket,
  done: (error: Error | undefined) => void,
): void {
  const status = answer.statusCode!
  // RFC 9110 §15.5.22: a 426 names what to upgrade to, as Connection says.
  if (status === 426 && answer.headers.upgrade !== undefined) {
    fields.push('Connection', 'Upgrade', 'Upgrade', answer.headers.upgrade)
  }
  const empty = hasNoBody(status)
  const chunked = !empty && answer.headers['content-length'] === undefined
  if (chunked) fields.push('Transfer-Encoding', 'chunked')
  x.status = status
  const head = bareHead(status, reasonPhrase(answer.statusMessage ?? '') ?? '', fields)
  if (empty) {
    answer.resume()
    socket.end(head, 'latin1', () => done(undefined))
    return
  }
  socket.write(head, 'latin1')
  // Read on, so that bytes that came too early do not reset the connection under the answer.
  socket.resume()
  pipeline(answer, chunked ? chunks(x) : counted(x), socket, (error) => done(error ?? undefined))
}

function counted(x: Exchange): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, pass) {
      x.bytesOut += chunk.length
      pass(null, chunk)
    },
  })
}

function chunks(x: Exchange): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, pass) {
      x.bytesOut += chunk.length
      this.push(`${chunk.length.toString(16)}\r\n`)
      this.push(chunk)
      pass(null, '\r\n')
    },
    flush(pass) {
      pass(null, '0\r\n\r\n')
    },
  })
}
