import type { Http2Session } from 'node:http2'

/**
 * Node closes a session while it still reads the GOAWAY that asks for it, which may write past the end of its memory: then
 * the process aborts, and the other side can bring that about with one packet (seen with 20.20.2). A turn later it is safe.
 */
export function closeLater(session: Http2Session): void {
  const close = session.close.bind(session)
  session.close = (done) => void setImmediate(close, done)
}
