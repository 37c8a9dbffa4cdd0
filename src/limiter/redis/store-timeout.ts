/**
 * Waits for an answer on behalf of an operator or a poll, not of a request.
 *
 * Rejects after `ms`, and with a message for an operator whenever the store can't be asked. An answer that came while the event loop stood
 * still counts: it is read before the time is said to be over.
 */
export function askStore<T>(ms: number, question: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const tooLate = () => reject(new Error(`the store did not answer within ${Math.round(ms)} ms`))
    const timer = setTimeout(() => setImmediate(tooLate), ms)
    question
      .then(resolve, (error: unknown) => reject(new Error(storeError(error))))
      .finally(() => clearTimeout(timer))
  })
}

/** Returns true if a Cluster answered that a call's keys are on two servers at present. Nothing has run then. */
export function isTryAgain(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('TRYAGAIN')
}

/** Describes an error for an operator in the server's words. ioredis' own words are about its options. */
export function storeError(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  if (/isn't writeable|isn't ready|Connection is closed|None of startup nodes/.test(message)) {
    return 'there is no connection to the store'
  }
  if (message.startsWith('Reached the max retries')) return 'the connection to the store was lost'
  return message
}
