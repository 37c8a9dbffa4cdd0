import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { createKey, digestOf, idOfDigest, isKey, KEY_PATTERN } from '../../src/credentials/key-format.js'

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const keys = Array.from({ length: 2000 }, createKey)

t.test('a key matches the pattern for secret scanners, and has a valid checksum', async (t) => {
  for (const key of keys) if (!new RegExp(`^${KEY_PATTERN}$`).test(key) || !isKey(key)) t.fail(key)
  t.equal(new Set(keys).size, keys.length)
  t.equal(keys[0]!.length, 44)
})

t.test('every character of a key is about equally frequent', async (t) => {
  const counts = new Map<string, number>()
  for (const key of keys) for (const one of key.slice(8, 38)) counts.set(one, (counts.get(one) ?? 0) + 1)
  t.equal(counts.size, 62)
  const expected = (keys.length * 30) / 62
  // Seven standard deviations: less than once in a million million runs.
  for (const [one, count] of counts) {
    t.ok(Math.abs(count - expected) < 7 * Math.sqrt(expected), `${one}: ${count} of ${expected.toFixed(0)}`)
  }
})

t.test('a key that was changed in any place is invalid', async () => {
  const at = fc.integer({ min: 0, max: 43 })
  const by = fc.constantFrom(...BASE62, '_', '-', ' ', 'é', '\n')
  const property = fc.property(fc.constantFrom(...keys), at, by, (key, at, by) => {
    const changed = key.slice(0, at) + by + key.slice(at + 1)
    return isKey(changed) === (changed === key)
  })
  fc.assert(property, { numRuns: 2000 })
  const swapped = fc.property(fc.constantFrom(...keys), fc.integer({ min: 8, max: 36 }), (key, at) => {
    const other = `${key.slice(0, at)}${key[at + 1]}${key[at]}${key.slice(at + 2)}`
    return isKey(other) === (other === key)
  })
  fc.assert(swapped, { numRuns: 1000 })
})

t.test('no other text is a key', async (t) => {
  fc.assert(fc.property(fc.string(), (text) => !isKey(text)))
  const alike = fc.stringMatching(/^tg_live_[0-9A-Za-z]{36}$/)
  t.equal(fc.sample(alike, 200).filter(isKey).length, 0)
  for (const text of ['', 'tg_live_', `${keys[0]} `, ` ${keys[0]}`, keys[0]!.toUpperCase(), `${keys[0]}0`]) {
    t.equal(isKey(text), false, text)
  }
})

t.test('the checksum is CRC-32 as in zip, so scanners in any language can verify it', async (t) => {
  // crc32(b'tg_live_' + b'0' * 30) of zlib in Python is 0xcf68128a.
  t.equal(isKey(`tg_live_${'0'.repeat(30)}3nUU1K`), true)
})

t.test('the SHA-256 of a key is stored, and its id is the beginning of that', async (t) => {
  const [key = ''] = keys
  const hex = createHash('sha256').update(key).digest('hex')
  t.equal(digestOf(key), hex)
  t.equal(idOfDigest(hex), hex.slice(0, 16))
  t.equal(digestOf('schl\u00fcssel'), createHash('sha256').update('schl\u00fcssel', 'latin1').digest('hex'))
})
