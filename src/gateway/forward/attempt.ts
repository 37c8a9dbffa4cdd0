import type { Target } from '../../upstream/pool/choose.js'
import type { ResponseHandler, Sent } from '../../upstream/sender.js'

/** Name, value, …; null: there are none. */
export type Trailers = readonly string[] | null

/** Who sends a request, as far as a later attempt has to know. */
interface Sender {
  connected(sent: Sent): void
  onResponseStarted(): void
  onHeaders(status: number, fields: string[], reason: string): void
  onData(chunk: Buffer): boolean
  onComplete(trailers: Trailers): void
  attemptFailed(error: Error): void
  /** The pool is through with an attempt that nobody waits for any more. */
  attemptGone(target: Target): void
}

/**
 * One more attempt after one that was abandoned: the pool goes on with that one until it has a connection or none, and
 * must not be heard as if it spoke of this one.
 */
export class Attempt implements ResponseHandler {
  readonly #sender: Sender
  /** Where it went, when it was abandoned, too. */
  #abandoned: Target | undefined

  constructor(sender: Sender) {
    this.#sender = sender
  }

  abandon(target: Target): void {
    this.#abandoned = target
  }

  onConnect(sent: Sent): void {
    if (this.#abandoned !== undefined) throw new Error('abandoned before it had a connection')
    this.#sender.connected(sent)
  }

  onResponseStarted(): void {
    this.#sender.onResponseStarted()
  }

  onHeaders(status: number, fields: string[], reason: string): void {
    this.#sender.onHeaders(status, fields, reason)
  }

  onData(chunk: Buffer): boolean {
    return this.#sender.onData(chunk)
  }

  onComplete(trailers: Trailers): void {
    this.#sender.onComplete(trailers)
  }

  onError(error: Error): void {
    if (this.#abandoned === undefined) this.#sender.attemptFailed(error)
    else this.#sender.attemptGone(this.#abandoned)
  }
}
