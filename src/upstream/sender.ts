/** A request for an upstream, whatever its protocol. */
export interface SenderRequest {
  readonly method: string
  /** Path and query. */
  readonly path: string
  /** Name, value, …, Host included; without those that frame the body or concern the connection. */
  readonly fields: readonly string[]
  readonly body: Buffer | BodySource | null
  /** Bytes of a streamed body; -1 when unknown. */
  readonly length: number
  /** True if its connection must not be reused. */
  readonly last?: boolean
  /** True to use a new connection, if possible: an idle one has just turned out to be dead. */
  readonly fresh?: boolean
  /** True if the fields are known to hold nothing but what may be sent: then nobody looks again. */
  readonly clean?: boolean
}

/** A streamed request body. */
export interface BodySource {
  /** Begins to deliver the body; after `wait`, continues where it was, to another sink. */
  start(sink: BodySink): void
  /** Pauses until the next `start`. Only before it has delivered anything. */
  wait(): void
  /** Asks for more after `write` returned false. */
  resume(): void
}

/** Destination of a body. */
export interface BodySink {
  /**
   * Writes a piece.
   *
   * @returns false when the next piece must wait for `resume`
   */
  write(piece: Buffer): boolean
  end(): void
}

/** Control of a request that has a connection. Both methods do nothing once the request is over. */
export interface Sent {
  /** Aborts the request. The handler gets an error, at once or when the stream is closed. */
  abort(): void
  /** Asks for more after `onData` returned false. */
  resume(): void
}

/**
 * Receives the progress of a request: `onConnect`, then the response, and at last either `onComplete` or `onError`,
 * once.
 */
export interface ResponseHandler {
  /**
   * Called before any byte is sent. Throws when the request is no longer wanted: then nothing is sent, and `onError`
   * gets the error.
   */
  onConnect(sent: Sent): void
  /** Reads the response, if it came whole and the handler can take it so. Left out: it cannot. */
  readonly readWhole?: WholeReader | undefined
  /** Receives a response that `readWhole` has read, in place of all other calls after `onConnect`. */
  onWhole?(response: WholeResponse): void
  /** The first byte of a response, or of a 1xx, has arrived. */
  onResponseStarted?(): void
  /**
   * Headers have arrived; also for a 1xx, of which there may be several.
   *
   * @param fields name, value, …
   * @param reason '' over HTTP/2
   */
  onHeaders(status: number, fields: string[], reason: string): void
  /**
   * True if a piece may come as Latin-1 text, which saves a copy for a handler that writes it as text. Read before each
   * piece.
   */
  readonly takesText?: boolean
  /**
   * Receives a piece of the body.
   *
   * @returns false when the next piece must wait for `resume`
   */
  onData(piece: Buffer | string): boolean
  /**
   * The response is complete.
   *
   * @param trailers name, value, …; null: there are none
   */
  onComplete(trailers: readonly string[] | null): void
  onError(error: Error): void
}

/** A response that came whole in one read, in parts that can be sent on as they are. */
export interface WholeResponse {
  readonly status: number
  /** Status line and field lines as they came, each with its CR LF; without those about the connection and chunks. */
  readonly head: string
  /** True if the head has a Date. */
  readonly dated: boolean
  /** True if the body came in chunks. */
  readonly chunked: boolean
  /** The body without them, one character per byte. */
  readonly body: string
  /** As in a head. */
  readonly idleSeconds: number
}

/**
 * Reads a response if it is all there and has nothing unusual in it.
 *
 * @param size number of bytes that have come
 * @returns undefined if `ResponseReader` has to read it
 */
export type WholeReader = (bytes: Buffer, size: number) => WholeResponse | undefined

/** The connections to one upstream, whatever their protocol. */
export interface Sender {
  dispatch(request: SenderRequest, handler: ResponseHandler): void
  /** Aborts a request. If it still waits to be sent, the handler gets an error at once. */
  withdraw(handler: ResponseHandler): void
  /** True if unsent requests wait for a connection to be made. Undefined: they never wait for anything else. */
  readonly connecting?: boolean
  /** True if it takes no new requests; those in flight may go on. */
  readonly closed: boolean
  /** True once everything has ended. */
  readonly destroyed: boolean
  /** Closes gracefully: takes no new requests, and resolves when those in flight are complete. */
  close(): Promise<void>
  /** Fails requests in flight. */
  destroy(): Promise<void>
}

/** Creates an error with a code that upstream-error.ts knows. */
export function coded(code: SenderErrorCode, message: string): Error {
  return Object.assign(new Error(message), { code })
}

type SenderErrorCode =
  | 'UPSTREAM_CONNECT_TIMEOUT'
  /** The other side closed the connection, or said that it did nothing with the request. */
  | 'UPSTREAM_CLOSED'
  | 'UPSTREAM_RESET'
  | 'UPSTREAM_GONE'
  | 'UPSTREAM_NO_HTTP2'
  /** HTTP/2: the SETTINGS of the upstream allow no streams. */
  | 'UPSTREAM_NO_STREAMS'
  /** HTTP/2: sent as often as allowed, and the upstream never processed it. */
  | 'UPSTREAM_UNPROCESSED'
  /** The response is not valid HTTP, or two readers could understand it differently. */
  | 'UPSTREAM_MALFORMED'
  /** The request must not be sent: a mistake on this side. */
  | 'UPSTREAM_UNSENDABLE'
  /** The sender aborted the request. */
  | 'UPSTREAM_ABORTED'
  /** The connections are closed. */
  | 'UPSTREAM_SHUT'
