import { createHash } from 'node:crypto'
import { readPemFile } from './pem.js'
import { readPublicKey } from './public-key.js'
import { showFile } from './read-file.js'
import { kindOf, patternKind, textKind } from './scalar-type.js'

/** Also matches claims that are URLs, as Auth0 uses them. */
export const CLAIM_PATTERN = '^[!-~]{1,256}$'

/** Kinds for the credentials of clients, and for what upstreams learn of them. */
export const CREDENTIALS = {
  /** File that is read with the configuration. */
  pem: kindOf('file', '^.', readPemFile, showFile),
  public_key: kindOf('file or PEM', '^.', readPublicKey, showFile),

  /** Name of a token's claim, or its path: `org.id`. */
  claim: patternKind('claim', CLAIM_PATTERN, [
    'is not the name of a claim',
    'write one such as sub or org.id, without spaces',
  ]),

  /** Value of a claim as text, for comparison, whatever type YAML gives it. */
  claim_value: textKind(
    'text, number, true or false',
    '^.{1,256}$',
    (value, fail) =>
      value !== '' && value.length <= 256
        ? value
        : fail('is empty or longer than 256 characters', 'write the value, or "*" for any'),
    ['string', 'integer', 'boolean'],
  ),

  /** Scope (RFC 6749 §3.3). */
  scope: patternKind('scope', '^[!#-\\[\\]-~]{1,256}$', [
    'is not a scope',
    'write one such as orders:write, without spaces, quotes and backslashes',
  ]),

  sha256: textKind('64 hex digits', '^[0-9a-fA-F]{64}$', (value, fail) =>
    /^[0-9a-fA-F]{64}$/.test(value)
      ? value.toLowerCase()
      : fail('is not a SHA-256 in hex', 'make one by: printf %s THE-KEY | sha256sum'),
  ),

  /** Secret of which only the SHA-256 is kept. */
  hashed: textKind('text', '^.', (value, fail) => {
    if (value === '') return fail('is empty', 'give a key, or remove this entry')
    if (value.length > 256) return fail('is longer than 256 characters', 'give a shorter key')
    return createHash('sha256').update(value).digest('hex')
  }),

  /** Short form of `identity`, in place of a mapping. */
  told: kindOf<{ headers: boolean }>(
    '`headers`',
    '^headers$',
    (value, fail) =>
      value === 'headers'
        ? { headers: true }
        : fail('is not known here', 'write headers, or a mapping with headers and jwt'),
    () => 'headers',
  ),
} as const
