import type { Refusal } from '../../errors.js'
import { CHALLENGES } from './challenge.js'

/**
 * What one way to know a caller finds: `'absent'`, at once, when its credential is not there, and the next source is
 * asked. A credential that is there decides: `undefined` with the consumer written into the exchange, or a refusal.
 * Only where it has not been seen lately may it be looked at for longer, by a Promise of one of these two.
 */
export type Identified = Refusal | undefined | 'absent'

/** Longest credential or trusted id, in characters. */
export const MAX_CREDENTIAL = 256

export function isId(text: string): boolean {
  return text !== '' && text.length <= MAX_CREDENTIAL
}

/**
 * @param detail for the caller: which credential is wrong, never its text
 * @param challenge one of `CHALLENGES`, perhaps with more to say
 */
export function unauthorized(detail: string | undefined, challenge: string = CHALLENGES.api_key): Refusal {
  return {
    code: 'unauthorized',
    headers: ['WWW-Authenticate', challenge],
    ...(detail === undefined ? {} : { detail }),
  }
}
