import { isIPv4 } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { compileAddressSet, formatListen, parseListen } from '../../src/net/addresses.js'
import { createBlock, formatBlock, readBlock } from '../../src/net/parse-cidr.js'

t.test('a block contains its addresses, including the first and the last', async (t) => {
  const trusted = compileAddressSet(['10.0.0.0/8', '192.0.2.7', '172.16.0.0/12', 'fd00::/8', '2001:db8::1'])
  for (const address of [
    '10.0.0.0',
    '10.255.255.255',
    '192.0.2.7',
    '172.31.255.255',
    'fd12:3456::1',
    '2001:db8::1',
  ]) {
    t.ok(trusted(address), address)
  }
  for (const address of [
    '9.255.255.255',
    '11.0.0.0',
    '192.0.2.8',
    '172.32.0.0',
    'fe00::',
    '2001:db8::2',
    '::',
  ]) {
    t.notOk(trusted(address), address)
  }
})

t.test('an IPv4-mapped IPv6 address is the IPv4 address, in a list and in a lookup', async (t) => {
  const trusted = compileAddressSet(['10.0.0.0/8', '::ffff:192.0.2.0/120'])
  for (const address of [
    '::ffff:10.1.2.3',
    '::ffff:a01:203',
    '0:0:0:0:0:ffff:10.1.2.3',
    '192.0.2.9',
    '::ffff:192.0.2.9',
  ]) {
    t.ok(trusted(address), address)
  }
  t.notOk(trusted('::10.1.2.3'))
  t.notOk(compileAddressSet(['::/64'])('10.1.2.3'))
})

t.test('text that is no address is in no block, not even in one that holds everything', async (t) => {
  const everything = compileAddressSet(['0.0.0.0/0', '::/0'])
  t.ok(everything('203.0.113.9'))
  t.ok(everything('2001:db8::9'))
  const made = [
    '',
    'unknown',
    '10.1',
    '0x7f.1',
    '127.1',
    '010.0.0.1',
    '10.0.0.256',
    'fe80::1%eth0',
    '1.2.3.4:80',
    '[::1]',
  ]
  for (const text of [...made, '_secret', '__proto__', '9'.repeat(10_000), `::${'f'.repeat(10_000)}`]) {
    t.notOk(everything(text), text.slice(0, 20))
  }
  t.notOk(compileAddressSet([])('127.0.0.1'))
})

const ipv4 = fc
  .integer({ min: 0, max: 0xffff_ffff })
  .map((n) => [24, 16, 8, 0].map((s) => (n >>> s) & 255).join('.'))

t.test('overlapping blocks in any order hold what each of them holds', async (t) => {
  const inBlock = (address: string, block: string) => {
    const [network = '', prefix] = block.split('/')
    const mask = Number(prefix) === 0 ? 0n : (0xffff_ffffn << BigInt(32 - Number(prefix))) & 0xffff_ffffn
    const bits = (text: string) => text.split('.').reduce((n, byte) => n * 256n + BigInt(byte), 0n)
    return (bits(address) & mask) === (bits(network) & mask)
  }
  const block = fc
    .tuple(ipv4, fc.integer({ min: 0, max: 32 }))
    .map(([address, prefix]) => `${address}/${prefix}`)
  fc.assert(
    fc.property(fc.array(block, { minLength: 1, maxLength: 20 }), fc.array(ipv4), (blocks, addresses) => {
      const set = compileAddressSet(blocks)
      const asked = [...addresses, ...blocks.map((text) => text.split('/')[0]!)]
      return asked.every((address) => set(address) === blocks.some((text) => inBlock(address, text)))
    }),
  )
  t.pass()
})

t.test('every spelling of an IPv6 address is the same address', async (t) => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      // The URL parser is an independent reader: it writes the short form.
      const short = new URL(`http://[${text}]`).hostname.slice(1, -1)
      const only = compileAddressSet([short])
      return only(text) && only(text.toUpperCase()) && !only('2001:db8::dead:beef')
    }),
  )
  const block = createBlock()
  for (const [address, network] of [
    ['1:2:3:4:5:6:7:8/64', '1:2:3:4::/64'],
    ['::1/127', '::/127'],
    ['1::/0', '::/0'],
    ['ffff::ffff:1:2:3/17', 'ffff::/17'],
    ['64:ff9b::1.2.3.4/96', '64:ff9b::/96'],
  ]) {
    t.equal(readBlock(address!, block), 'inexact', String(address))
    t.equal(formatBlock(block), network)
  }
})

t.test('any text can be looked up', async (t) => {
  const set = compileAddressSet(['128.0.0.0/1', '8000::/1'])
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6()), (text) => typeof set(text) === 'boolean'),
  )
  fc.assert(
    fc.property(fc.ipV4(), (text) => set(text) === (isIPv4(text) && Number.parseInt(text, 10) >= 128)),
  )
  t.pass()
})

t.test('a list of a thousand blocks tells an address inside from one outside', async (t) => {
  const set = compileAddressSet(Array.from({ length: 1000 }, (_, i) => `10.${i >> 2}.${(i & 3) << 6}.0/24`))
  t.ok(set('10.249.192.77'))
  t.notOk(set('10.249.193.77'))
})

t.test('a listen address is parsed, and formatted back to the same text', async (t) => {
  for (const text of ['0.0.0.0:8080', '[::]:80', 'localhost:0', '[2001:db8::1]:65535']) {
    t.equal(formatListen(parseListen(text)!), text)
  }
  t.same(parseListen(':8080'), { host: '::', port: 8080 }, 'all addresses of the machine')
  for (const text of ['8080', ':', 'localhost', '::1:80', '[::1]', '[x]:1', 'a:65536', 'a b:1', 'a:1x', '']) {
    t.equal(parseListen(text), undefined, text)
  }
})
