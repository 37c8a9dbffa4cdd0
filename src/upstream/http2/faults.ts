import type { ClientHttp2Session, Http2Session } from 'node:http2'

/**
 * Closes a session in a later turn. Node closes a session while it still reads the GOAWAY that asks for it, and may
 * then write past the end of its memory: the process aborts, and the other side can cause that with one packet (seen
 * with 20.20.2). A turn later it is safe.
 */
export function closeLater(session: Http2Session): void {
  const close = session.close.bind(session)
  session.close = (done) => void setImmediate(close, done)
}

const SESSION = Symbol('the native part of the session of a stream')

/**
 * Makes each stream keep the native part of its session alive. A response may end with headers that Node never reports:
 * those of an incomplete block, or more than `maxHeaderListPairs`. While something refers to its stream, Node must not
 * collect that part: the process would abort, by `current_nghttp2_memory_ == 0` (seen with 20.20.2). Streams that a
 * client opens are not affected.
 *
 * @param session must not be connected yet; it is read only once it is
 */
export function keepWithStreams(session: ClientHttp2Session): void {
  let native: unknown
  session.once('connect', () => {
    const symbol = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'kHandle')
    native = symbol && (session as unknown as Record<symbol, unknown>)[symbol]
  })
  const request = session.request.bind(session)
  session.request = (...asked) => Object.assign(request(...asked), { [SESSION]: native })
}
