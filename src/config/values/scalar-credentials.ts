import { createHash } from 'node:crypto'
import { type PemFile, readPemFile, showPemFile } from './pem.js'
import { readPublicKey } from './public-key.js'
import { asText, type Kind } from './scalar-type.js'

/** Also those that are URLs, as of Auth0. */
export const CLAIM_PATTERN = '^[!-~]{1,256}$'

const SCOPE_PATTERN = '^[!#-\\[\\]-~]{1,256}$'

/** What callers are known by, and what upstreams are told of them. */
export const CREDENTIALS = {
  /** A file that is read along with the configuration. */
  pem: {
    label: 'file',
    types: ['string'],
    pattern: '^.',
    read: readPemFile,
    show: showPemFile,
  } satisfies Kind<PemFile>,

  public_key: {
    label: 'file or PEM',
    types: ['string'],
    pattern: '^.',
    read: readPublicKey,
    show: showPemFile,
  } satisfies Kind<PemFile>,

  /** The name of a claim of a token, or the way to it: `org.id`. */
  claim: {
    label: 'claim',
    types: ['string'],
    pattern: CLAIM_PATTERN,
    read: (value, fail) =>
      new RegExp(CLAIM_PATTERN).test(value)
        ? value
        : fail('is not the name of a claim', 'write one such as sub or org.id, without spaces'),
    show: asText,
  } satisfies Kind<string>,

  /** A value of a claim, as it is compared: whatever YAML takes it for. */
  claim_value: {
    label: 'text, number, true or false',
    types: ['string', 'integer', 'boolean'],
    pattern: '^.{1,256}$',
    read: (value, fail) =>
      value !== '' && value.length <= 256
        ? value
        : fail('is empty or longer than 256 characters', 'write the value, or "*" for any'),
    show: asText,
  } satisfies Kind<string>,

  /** RFC 6749 §3.3. */
  scope: {
    label: 'scope',
    types: ['string'],
    pattern: SCOPE_PATTERN,
    read: (value, fail) =>
      new RegExp(SCOPE_PATTERN).test(value)
        ? value
        : fail('is not a scope', 'write one such as orders:write, without spaces, quotes and backslashes'),
    show: asText,
  } satisfies Kind<string>,

  sha256: {
    label: '64 hex digits',
    types: ['string'],
    pattern: '^[0-9a-fA-F]{64}$',
    read: (value, fail) =>
      /^[0-9a-fA-F]{64}$/.test(value)
        ? value.toLowerCase()
        : fail('is not a SHA-256 in hex', 'make one by: printf %s THE-KEY | sha256sum'),
    show: asText,
  } satisfies Kind<string>,

  /** A secret of which only the SHA-256 is kept. */
  hashed: {
    label: 'text',
    types: ['string'],
    pattern: '^.',
    read: (value, fail) => {
      if (value === '') return fail('is empty', 'give a key, or remove this entry')
      if (value.length > 256) return fail('is longer than 256 characters', 'give a shorter key')
      return createHash('sha256').update(value).digest('hex')
    },
    show: asText,
  } satisfies Kind<string>,

  /** What upstreams are told of the caller, in the place of a mapping. */
  told: {
    label: '`headers`',
    types: ['string'],
    pattern: '^headers$',
    read: (value, fail) =>
      value === 'headers'
        ? { headers: true }
        : fail('is not known here', 'write headers, or a mapping with headers and jwt'),
    show: () => 'headers',
  } satisfies Kind<{ headers: boolean }>,
} as const
