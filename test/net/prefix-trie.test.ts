import { isIP, SocketAddress } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { createBlock, formatBlock, readAddress, readBlock } from '../../src/net/parse-cidr.js'
import { createPrefixTrie } from '../../src/net/prefix-trie.js'
import { isInBlocks } from '../support/in-blocks.js'

const octet = fc.oneof(fc.constantFrom(0, 1, 10, 127, 128, 192, 255), fc.nat(255))
const ipv4 = fc.tuple(octet, octet, octet, octet).map((octets) => octets.join('.'))
const group = fc.oneof(
  fc.constantFrom('0', 'ffff', '2001', 'db8'),
  fc.nat(0xffff).map((n) => n.toString(16)),
)
const ipv6 = fc.oneof(
  fc.ipV6(),
  fc.array(group, { minLength: 8, maxLength: 8 }).map((list) => list.join(':')),
  ipv4.map((address) => `::ffff:${address}`),
  fc.tuple(group, group).map(([a, b]) => `${a}:${b}::`),
)
const address = fc.oneof(ipv4, ipv6)
const broken = fc
  .tuple(address, fc.nat(45), fc.constantFrom('', ':', '::', '.', '0', 'g', '%', '1.2'))
  .map(([text, at, piece]) => text.slice(0, at) + piece + text.slice(at + 1))

t.test('text is an address exactly where Node says so, and reads as the same address', async () => {
  const words = new Uint32Array(4)
  fc.assert(
    fc.property(fc.oneof(address, broken, fc.string()), (text) => {
      const family = readAddress(text, words)
      if (isIP(text) === 0 || text.includes('%')) return family === 0
      if (family === 0) return false
      // Node writes the last 32 bits of some addresses in IPv4's way, and the trie knows those as IPv4.
      const plain = formatBlock({ family, words, length: family === 4 ? 32 : 128 }).split('/')[0]!
      const spelt = (one: string) =>
        new SocketAddress({ address: one, family: isIP(one) === 4 ? 'ipv4' : 'ipv6' }).address
      return spelt(family === 4 && isIP(text) === 6 ? `::ffff:${plain}` : plain) === spelt(text)
    }),
    { numRuns: 2000 },
  )
})

t.test('a block is read with its prefix, and the reader notices bits set behind it', async (t) => {
  const block = createBlock()
  const cases = [
    ['203.0.113.0/24', undefined, '203.0.113.0/24'],
    ['203.0.113.7', undefined, '203.0.113.7/32'],
    ['203.0.113.7/24', 'inexact', '203.0.113.0/24'],
    ['0.0.0.0/0', undefined, '0.0.0.0/0'],
    ['2001:db8::/32', undefined, '2001:db8::/32'],
    ['2001:db8::1', undefined, '2001:db8::1/128'],
    ['2001:db8:0:0:1::/64', 'inexact', '2001:db8::/64'],
    ['::ffff:203.0.113.0/120', undefined, '203.0.113.0/24'],
    ['::/0', undefined, '::/0'],
  ] as const
  for (const [text, fault, shown] of cases) {
    t.equal(readBlock(text, block), fault, text)
    t.equal(formatBlock(block), shown)
  }
  for (const text of [
    '',
    '1.2.3.4/33',
    '1.2.3.4/',
    '1.2.3.4/08',
    '::1/129',
    '::ffff:1.2.3.4/95',
    'a/8',
    '1.2.3/8',
    '10.0.0.0/8/8',
  ]) {
    t.equal(readBlock(text, block), 'malformed', text)
    t.equal(block.family, 0)
  }
})

/** Addresses of few bits, so that blocks often nest and repeat. */
const near = fc
  .tuple(
    fc.constantFrom(4, 6),
    fc.nat(15),
    fc.nat(15),
    fc.constantFrom(0, 1, 2, 8, 30, 31, 32, 33, 64, 127, 128),
  )
  .map(([family, high, low, length]) => {
    const most = family === 4 ? 32 : 128
    const bits = Math.min(length, most)
    return family === 4
      ? `${high * 16}.0.0.${low}/${bits}`
      : `${(high * 4096).toString(16)}:0:8000::${low.toString(16)}/${bits}`
  })

t.test('a lookup finds what a list would find, after any additions, expiries and removals', async () => {
  const change = fc.record({
    text: near,
    until: fc.constantFrom(1, 5, 9, Number.POSITIVE_INFINITY),
    out: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), fc.array(near, { maxLength: 20 }), (changes, asked) => {
      const trie = createPrefixTrie()
      const model = new Map<string, number>()
      const block = createBlock()
      for (const { text, until, out } of changes) {
        readBlock(text, block)
        const key = formatBlock(block)
        if (out) {
          if (trie.delete(block) !== model.delete(key)) return false
        } else {
          trie.set(block, until)
          model.set(key, until)
        }
        if (trie.size !== model.size) return false
      }
      const words = new Uint32Array(4)
      for (const text of [...asked, ...model.keys()]) {
        const one = text.slice(0, text.indexOf('/'))
        const family = readAddress(one, words)
        if (family === 0) return false
        for (const now of [0, 5]) {
          const holding = [...model].filter(([key, until]) => until > now && isInBlocks(one, [key]))
          const hit = trie.match(family, words, now)
          if ((hit !== 0) !== holding.length > 0) return false
          if (hit === 0) continue
          trie.read(hit, block)
          const lengths = holding.map(([key]) => Number(key.slice(key.indexOf('/') + 1)))
          if (block.length !== Math.min(...lengths)) return false
          if (model.get(formatBlock(block)) !== trie.until(hit)) return false
        }
      }
      return true
    }),
    { numRuns: 400 },
  )
})

t.test('a removed block makes room for new ones', async (t) => {
  const trie = createPrefixTrie()
  const block = createBlock()
  const fill = (from: number) => {
    for (let i = 0; i < 20_000; i++) {
      readBlock(`10.${from}.${i >> 8}.${i & 255}`, block)
      trie.set(block, 1)
    }
  }
  const empty = (from: number) => {
    for (let i = 0; i < 20_000; i++) {
      readBlock(`10.${from}.${i >> 8}.${i & 255}`, block)
      trie.delete(block)
    }
  }
  fill(0)
  const { bytes } = trie
  t.ok(bytes < 20_000 * 2 * 28 * 1.5, `${bytes}`)
  for (let round = 1; round < 5; round++) {
    empty(round - 1)
    t.equal(trie.size, 0)
    fill(round)
  }
  t.equal(trie.bytes, bytes)
})
