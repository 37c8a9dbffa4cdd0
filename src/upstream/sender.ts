/** A request as it goes to an upstream, whatever is spoken there. */
export interface SenderRequest {
  readonly method: string
  /** Path and query. */
  readonly path: string
  /** Name, value, …, Host among them; without those that frame the body or are about the connection. */
  readonly fields: readonly string[]
  readonly body: Buffer | BodySource | null
  /** Bytes of a body that comes bit by bit; -1 when nobody knows. */
  readonly length: number
  /** Nothing else is sent on its connection. */
  readonly last?: boolean
  /** On a new connection, where one can be had: another that was idle has just turned out to be dead. */
  readonly fresh?: boolean
}

/** A request's body that comes bit by bit. */
export interface BodySource {
  /** Begins to give what comes; after `wait` it goes on where it was, to another sink. */
  start(sink: BodySink): void
  /** Gives nothing until it is started again. Only before it has given anything. */
  wait(): void
  /** More is wanted after `write` gave false. */
  resume(): void
}

/** Where a body goes. */
export interface BodySink {
  /** @returns false when the next piece should wait for `resume` */
  write(piece: Buffer): boolean
  end(): void
}

/** A request that has a connection, for who sent it. Both do nothing once it is over. */
export interface Sent {
  /** Nobody wants the rest. Told to the handler as an error, at once or when the stream is closed. */
  abort(): void
  /** More is wanted after `onData` gave false. */
  resume(): void
}

/** What becomes of a request: `onConnect`, then the response, and at last `onComplete` or `onError`, one of them and once. */
export interface ResponseHandler {
  /** Before anything of it is sent. Throws when nobody wants it any more: then nothing is, and the error is `onError`'s. */
  onConnect(sent: Sent): void
  /** The first byte of a response has come, or of a 1xx. */
  onResponseStarted?(): void
  /**
   * Also for a 1xx, of which there may be several.
   *
   * @param fields name, value, …
   * @param reason '' over HTTP/2
   */
  onHeaders(status: number, fields: string[], reason: string): void
  /** A piece may come as Latin-1 text, which saves one who writes it out as such a copy. Asked before each. */
  readonly takesText?: boolean
  /** @returns false when the next piece should wait for `resume` */
  onData(piece: Buffer | string): boolean
  /** @param trailers name, value, …; null: there are none */
  onComplete(trailers: readonly string[] | null): void
  onError(error: Error): void
}

/** The connections to one upstream, whatever is spoken on them. */
export interface Sender {
  dispatch(request: SenderRequest, handler: ResponseHandler): void
  /** Nobody wants a response any more. Of a request that still waits to be sent, the handler is told by an error, now. */
  withdraw(handler: ResponseHandler): void
  /** Whether what is not sent yet waits for a connection to be made. Undefined: it never waits for anything else. */
  readonly connecting?: boolean
  /** Takes nothing new; what is under way may go on. */
  readonly closed: boolean
  /** All is over. */
  readonly destroyed: boolean
  /** Graceful: takes nothing new, and resolves when all that is under way is through. */
  close(): Promise<void>
  /** What is under way fails. */
  destroy(): Promise<void>
}

/** An error that upstream-error.ts knows by its code. */
export function coded(code: SenderErrorCode, message: string): Error {
  return Object.assign(new Error(message), { code })
}

export type SenderErrorCode =
  | 'UPSTREAM_CONNECT_TIMEOUT'
  /** The other side has closed the connection, or said that it did nothing with the request. */
  | 'UPSTREAM_CLOSED'
  | 'UPSTREAM_RESET'
  | 'UPSTREAM_GONE'
  | 'UPSTREAM_NO_HTTP2'
  /** Over HTTP/2, by its SETTINGS. */
  | 'UPSTREAM_NO_STREAMS'
  /** Over HTTP/2: sent as often as it may, and each time it did not look at the request. */
  | 'UPSTREAM_UNPROCESSED'
  /** What came is not HTTP, or two readers could understand it differently. */
  | 'UPSTREAM_MALFORMED'
  /** The request is none that may be sent: a mistake on this side. */
  | 'UPSTREAM_UNSENDABLE'
  /** Given up by who sent it. */
  | 'UPSTREAM_ABORTED'
  /** The connections are closed. */
  | 'UPSTREAM_SHUT'
