import type { IncomingMessage } from 'node:http'

/**
 * How much more than its body a chunked request may send. Node limits the extensions of one chunk to 16 KiB, and not how many
 * chunks have some. What came in one read counts late, so the limit is that of a read more than what is meant.
 */
const MOST_BYTES = 2 * 65_536
/** What every chunk may cost in framing besides: its size, two line ends, and the record of TLS that brings it. */
const BYTES_A_CHUNK = 64

/**
 * Watches a chunked request for extensions that are longer than the body is worth (RFC 9112 §7.1.1): they mean nothing here, and
 * would be a way to send without end.
 *
 * @param exceeded called once, while Node's parser is at work. Nothing more of the body is handed on
 */
export function limitExtensions(req: IncomingMessage, exceeded: (error: Error) => void): void {
  const { socket } = req
  const push = req.push.bind(req)
  // Those that came with the header are left out with what else came with it.
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
