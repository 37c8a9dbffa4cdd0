import type { Target } from '../../upstream/pool/choose.js'
import type { ResponseHandler, Sent } from '../../upstream/sender.js'

/** Name, value, …; null: there are none. */
export type Trailers = readonly string[] | null

/** The parts of a sender that a later attempt uses. */
interface Sender {
  connected(sent: Sent): void
  onResponseStarted(): void
  onHeaders(status: number, fields: string[], reason: string): void
  onData(chunk: Buffer): boolean
  onComplete(trailers: Trailers): void
  attemptFailed(error: Error): void
  /** The pool has finished with an attempt that was abandoned. */
  attemptGone(target: Target): void
}

/**
 * One more attempt after an abandoned one. The pool continues with the abandoned one until it has a connection or fails to
 * get one: what it reports then must not be taken for this attempt.
 */
export class Attempt implements ResponseHandler {
  readonly #sender: Sender
  /** The target of this attempt, once it is abandoned, too. */
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
