import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline, Transform } from 'node:stream'
import type { Exchange } from '../exchange/exchange.js'
import { hasNoBody, reasonPhrase } from '../forward/upstream-response.js'
import { bareHead } from '../respond/client-error.js'

/**
 * Relays a response other than 101 to a handshake, on the client's bare socket. The gateway frames it: by length if the
 * upstream gave one, otherwise in chunks, so that a cut body never looks whole.
 *
 * @param fields the header for the client, without the framing
 * @param done called once; with an error when the response could not be completed
 */
export function relayAnswer(
  x: Exchange,
  answer: IncomingMessage,
  fields: string[],
  socket: Socket,
  done: (error: Error | undefined) => void,
): void {
  const status = answer.statusCode!
  // A 426 names the protocol to upgrade to, and Connection has to list Upgrade (RFC 9110 §15.5.22).
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
  // Read on: otherwise bytes that came too early would reset the connection before the client has the response.
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
