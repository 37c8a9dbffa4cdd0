import type { Refusal } from '../../errors.js'
import { CHALLENGES } from './challenge.js'

/**
 * Result of one source of consumers: `'absent'`, at once, if its credential is missing, and the next source is tried. A
 * present credential decides: `undefined` with the consumer written into the exchange, or a refusal. A credential that
 * was not seen recently may take longer: then the result is a Promise of one of these two.
 */
export type Identified = Refusal | undefined | 'absent'

/** Longest credential or trusted id, in characters. */
export const MAX_CREDENTIAL = 256

export function isId(text: string): boolean {
  return text !== '' && text.length <= MAX_CREDENTIAL
}

/**
 * Makes a 401.
 *
 * @param detail for the client: which credential is wrong, never its text
 * @param challenge one of `CHALLENGES`, optionally with more parameters
 */
export function unauthorized(detail: string | undefined, challenge: string = CHALLENGES.api_key): Refusal {
  return {
    code: 'unauthorized',
    headers: ['WWW-Authenticate', challenge],
    ...(detail === undefined ? {} : { detail }),
  }
}
