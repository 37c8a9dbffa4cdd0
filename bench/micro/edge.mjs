// What the edge rules cost a request, in ns of the process's CPU: node bench/micro/edge.mjs, after npm run build.
// Medians of interleaved rounds: a look-up of an address among 100,000 blocks, a change of one, a token, and the whole stage.

import { NO_CDN } from '../../dist/config/snapshot/cdn.js'
import { createAddressBuckets } from '../../dist/gateway/edge/address-buckets.js'
import { checkEdge } from '../../dist/gateway/stages/edge.js'
import { compileAddressSet } from '../../dist/net/addresses.js'
import { createBlock, readAddress, readBlock } from '../../dist/net/parse-cidr.js'
import { createPrefixTrie } from '../../dist/net/prefix-trie.js'

/** Rules of a configuration without `edge`. */
const NO_EDGE = { active: false, cdn: NO_CDN, silent: false }

const ROUNDS = 15
const CALLS = 200_000
const BLOCKS = 100_000

/** An own generator, so that every run has the same addresses. */
let seed = 1
function random(below) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor((seed / 2 ** 32) * below)
}

const hex = () => random(65_536).toString(16)
const v4 = () => `${1 + random(222)}.${random(256)}.${random(256)}.${random(256)}`
const v6 = () => `2001:${hex()}:${hex()}:${hex()}:${hex()}:${hex()}:${hex()}:${hex()}`

const block = createBlock()
function trieOf(texts) {
  const trie = createPrefixTrie()
  for (const text of texts) {
    readBlock(text, block)
    trie.set(block, Number.POSITIVE_INFINITY)
  }
  return trie
}

const lengths4 = [16, 24, 24, 28, 32, 32, 32, 32]
const lengths6 = [32, 48, 64, 64]
const list4 = Array.from({ length: BLOCKS }, () => `${v4()}/${lengths4[random(8)]}`)
const list6 = Array.from({ length: BLOCKS }, () => `${v6()}/${lengths6[random(4)]}`)
const began = performance.now()
const trie4 = trieOf(list4)
const filled4 = performance.now() - began
const trie6 = trieOf(list6)
const filled6 = performance.now() - began - filled4
const ask4 = Array.from({ length: 8192 }, v4)
const ask6 = Array.from({ length: 8192 }, v6)
const words = new Uint32Array(4)
const sorted = compileAddressSet(list4.filter((text) => readBlock(text, block) === undefined))

const stage = checkEdge({ metrics: { edgeDenied() {} } })
const rules = {
  ...NO_EDGE,
  active: true,
  denied: trie4,
  ipLimit: { each: 0.001, burst: 1000, addresses: 131_072 },
}
const headers = { forwardedFor: undefined, cdn: [], userAgent: 'curl/8' }
const isTrustedProxy = () => false
const exchange = {
  snapshot: { edge: NO_EDGE, isTrustedProxy },
  headers,
  peer: '',
  target: '/a',
  clientIp: '',
}
const guarded = { ...exchange, snapshot: { edge: rules, isTrustedProxy } }
const buckets = createAddressBuckets(131_072)

let found = 0
const measured = {
  'read an IPv4 address': (i) => readAddress(ask4[i & 8191], words),
  'read it and look it up among 100,000 blocks': (i) =>
    trie4.match(readAddress(ask4[i & 8191], words), words, 0),
  'read an IPv6 address': (i) => readAddress(ask6[i & 8191], words),
  'read it and look it up among 100,000 blocks of IPv6': (i) =>
    trie6.match(readAddress(ask6[i & 8191], words), words, 0),
  'the same IPv4 address every time': (i) => trie4.match(readAddress(ask4[i & 7], words), words, 0),
  'take a block out and in again': (i) => {
    readBlock(list4[i % BLOCKS], block)
    trie4.delete(block)
    trie4.set(block, Number.POSITIVE_INFINITY)
    return 1
  },
  'a token of its bucket': (i) =>
    buckets.take(readAddress(ask4[i & 8191], words), words, rules.ipLimit, i + 1) === 0 ? 1 : 0,
  'the stage, with nothing configured': (i) => {
    exchange.peer = ask4[i & 8191]
    return stage(exchange) === undefined ? 1 : 0
  },
  'the stage, with 100,000 blocks and a limit by address': (i) => {
    guarded.peer = ask4[i & 8191]
    return stage(guarded) === undefined ? 1 : 0
  },
  'sorted ranges (those of the list without bits behind their prefix)': (i) =>
    sorted(ask4[i & 8191]) ? 1 : 0,
}
const times = Object.fromEntries(Object.keys(measured).map((name) => [name, []]))
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, call] of Object.entries(measured)) {
    const before = process.cpuUsage()
    for (let i = 0; i < CALLS; i++) found += call(i + round * 977)
    const { user, system } = process.cpuUsage(before)
    times[name].push(((user + system) * 1000) / CALLS)
  }
}
for (const [name, list] of Object.entries(times)) {
  console.log(`${String(Math.round(list.sort((a, b) => a - b)[ROUNDS >> 1])).padStart(6)} ns  ${name}`)
}
const mib = (bytes) => `${(bytes / 1024 ** 2).toFixed(1)} MiB`
console.log(`filled in ${Math.round(filled4)} and ${Math.round(filled6)} ms (IPv4, IPv6)`)
console.log(`${mib(trie4.bytes)} and ${mib(trie6.bytes)}; checksum ${found !== 0}`)
