/** What ends by itself when something throws in it: one exchange, or a copy of one. */
export interface Breakable {
  /** Ends it: releases what it holds, counts and logs the error. Never throws. */
  broken(error: unknown): void
}

/**
 * The owner is kept on the response. What sockets, streams and timers call catches what is thrown in it, and has the
 * response at hand: a context for each request, as `AsyncLocalStorage` has one, would cost every request something.
 */
const OWNER = Symbol('the exchange that a response belongs to')

interface Owned {
  [OWNER]?: Breakable
}

/** Says whose a response is. Before anything is sent on it. */
export function own(res: object, owner: Breakable): void {
  ;(res as Owned)[OWNER] = owner
}

/**
 * Ends the exchange of a response, as something threw in a handler of it.
 *
 * @throws the error, when the response is nobody's
 */
export function broken(res: object, error: unknown): void {
  const owner = (res as Owned)[OWNER]
  if (owner === undefined) throw error
  owner.broken(error)
}
