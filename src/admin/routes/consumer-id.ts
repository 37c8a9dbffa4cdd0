import type { Problem } from '../access/problem.js'

/** Longest id that is accepted, in UTF-16 units: a longer one is a mistake, and assignments are held in memory. */
const MAX_ID = 1024

/** Returns the fault in a consumer's id from the path, if any. Any character is allowed. */
export function consumerProblem(id: string): Problem | undefined {
  if (id === '')
    return {
      code: 'bad_request',
      detail: 'The consumer id is empty; it stands in the path, percent-encoded.',
    }
  if (id.length > MAX_ID)
    return { code: 'bad_request', detail: `A consumer id has at most ${MAX_ID} characters.` }
  return undefined
}
