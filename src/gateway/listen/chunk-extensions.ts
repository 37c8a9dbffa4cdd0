import type { IncomingMessage } from 'node:http'

/**
 * Bytes that a chunked request may send beyond its body. Node limits the extensions of one chunk to 16 KiB, but not how
 * many chunks carry some. The bytes of one read are counted late, so the limit is one read above the intended one.
 */
const MOST_BYTES = 2 * 65_536
/** Framing bytes that each chunk may add: its size, two line ends and the TLS record that carries it. */
const BYTES_A_CHUNK = 64

/**
 * Stops a chunked request whose extensions are out of proportion to its body (RFC 9112 §7.1.1). The gateway ignores
 * extensions, so a client could use them to send without end.
 *
 * @param exceeded called once, from inside Node's parser. No more of the body is delivered after that
 */
export function limitExtensions(req: IncomingMessage, exceeded: (error: Error) => void): void {
  const { socket } = req
  const push = req.push.bind(req)
  // Bytes that arrived together with the header are not counted.
  let spare = MOST_BYTES + socket.bytesRead
  let over = false
  req.push = (chunk: Buffer | null): boolean => {
    if (over) return false
    if (chunk === null) return push(null)
    spare += chunk.length + BYTES_A_CHUNK
    if (socket.bytesRead <= spare) return push(chunk)
    over = true
    exceeded(Object.assign(new Error('Chunk extensions overflow'), { code: 'HPE_CHUNK_EXTENSIONS_OVERFLOW' }))
    return false
  }
}
