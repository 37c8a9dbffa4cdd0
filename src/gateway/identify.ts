import type { Refusal } from '../errors.js'
import type { Exchange } from './exchange.js'

/**
 * One way to know a caller. It answers `'absent'`, at once, when its credential is not there, and the next source is
 * asked. A credential that is there decides: `undefined` with the consumer written into the exchange, or a refusal.
 * Only where it has not been seen lately may it be looked at for longer, by a Promise.
 */
export type Identify<Source> = (x: Exchange, source: Source) => Identified | Promise<Refusal | undefined>

export type Identified = Refusal | undefined | 'absent'

/** Longest credential or trusted id, in characters. */
export const MAX_CREDENTIAL = 256

export function isId(text: string): boolean {
  return text !== '' && text.length <= MAX_CREDENTIAL
}

/**
 * @param detail for the caller: which credential is wrong, never its text
 * @param challenge RFC 9110 §11.6.1 wants one; API keys have no registered scheme
 */
export function unauthorized(detail: string | undefined, challenge = 'ApiKey realm="tidegate"'): Refusal {
  return {
    code: 'unauthorized',
    headers: ['WWW-Authenticate', challenge],
    ...(detail === undefined ? {} : { detail }),
  }
}
