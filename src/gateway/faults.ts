/** One exchange, or what else ends by itself. */
export interface Failing {
  /** Ends it after something threw in it: releases what it holds, counts and logs the error. Never throws. */
  failed(error: unknown): void
}

/** Kept on the response: whoever is called by a stream, a socket or a timer has that at hand, and the exchange has it alone. */
const OWNER = Symbol('the exchange that a response belongs to')

interface Owned {
  [OWNER]?: Failing
}

/** Says whose a response is. Before anything is sent on it. */
export function own(res: object, owner: Failing): void {
  ;(res as Owned)[OWNER] = owner
}

/**
 * Ends the exchange of a response: something threw in a handler of it.
 *
 * @throws the error, when the response is nobody's
 */
export function failOf(res: object, error: unknown): void {
  const owner = (res as Owned)[OWNER]
  if (owner === undefined) throw error
  owner.failed(error)
}
