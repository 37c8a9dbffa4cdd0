import type { ResponseHandler, Sent } from '../../upstream/sender.js'

/** Name, value, …; null: there are none. */
export type Trailers = readonly string[] | null

/** Receives the events of the attempt under way. */
export interface AttemptEvents {
  readonly takesText: boolean
  connected(sent: Sent): void
  started(): void
  headers(status: number, fields: string[], reason: string): void
  data(chunk: Buffer | string): boolean
  complete(trailers: Trailers): void
  failed(error: Error): void
}

/**
 * Handles the response to one attempt. The pool continues with an abandoned attempt until it has a connection or fails to
 * get one: what it reports then must not be taken for the next attempt.
 */
export class Attempt implements ResponseHandler {
  readonly handler: ResponseHandler
  /** Set once the attempt is abandoned. */
  #gone: (() => void) | undefined

  /** @param handler the object that the pool knows, if another one passes its calls on to this */
  constructor(
    private readonly events: AttemptEvents,
    handler?: ResponseHandler,
  ) {
    this.handler = handler ?? this
  }

  /** @param gone called when the pool has finished with the attempt */
  abandon(gone: () => void): void {
    this.#gone = gone
  }

  onConnect(sent: Sent): void {
    if (this.#gone !== undefined) throw new Error('abandoned before it had a connection')
    this.events.connected(sent)
  }

  onResponseStarted(): void {
    this.events.started()
  }

  onHeaders(status: number, fields: string[], reason: string): void {
    this.events.headers(status, fields, reason)
  }

  get takesText(): boolean {
    return this.events.takesText
  }

  onData(chunk: Buffer | string): boolean {
    return this.events.data(chunk)
  }

  onComplete(trailers: Trailers): void {
    this.events.complete(trailers)
  }

  onError(error: Error): void {
    if (this.#gone !== undefined) this.#gone()
    else this.events.failed(error)
  }
}
