/** Work that ends by itself if code in it throws: one exchange, or a copy of one. */
export interface Breakable {
  /** Ends it: releases its resources, counts and logs the error. Never throws. */
  broken(error: unknown): void
}

/** Runs a step that a socket, a promise or a timer calls. If it throws, only its owner ends. */
export function guarded(owner: Breakable, step: () => void): void {
  try {
    step()
  } catch (error) {
    owner.broken(error)
  }
}

/**
 * Key of the owner, which is stored on the response. Callbacks of sockets, streams and timers catch errors, and have
 * the response at hand. A context per request, such as `AsyncLocalStorage`, would cost every request time.
 */
const OWNER = Symbol('the exchange that a response belongs to')

interface Owned {
  [OWNER]?: Breakable
}

/** Sets the owner of a response. Call it before anything is sent on it. */
export function own(res: object, owner: Breakable): void {
  ;(res as Owned)[OWNER] = owner
}

/**
 * Ends the exchange of a response after an error in one of its handlers.
 *
 * @throws the error, if the response has no owner
 */
export function broken(res: object, error: unknown): void {
  const owner = (res as Owned)[OWNER]
  if (owner === undefined) throw error
  owner.broken(error)
}
