import fc from 'fast-check'
import t from 'tap'
import { clientAddress } from '../../../src/gateway/exchange/address.js'
import { compileAddressSet } from '../../../src/net/addresses.js'

const trusted = compileAddressSet(['10.0.0.0/8', '192.168.1.7', 'fd00::/8'])

t.test("without other information the client's address is the socket's", async (t) => {
  t.equal(clientAddress('203.0.113.9', undefined, trusted), '203.0.113.9')
  t.equal(clientAddress('10.0.0.1', undefined, trusted), '10.0.0.1')
  t.equal(clientAddress('fe80::1%eth0', undefined, trusted), 'fe80::1', 'without its zone')
})

t.test('X-Forwarded-For of an untrusted peer is ignored', async (t) => {
  t.equal(clientAddress('203.0.113.9', '198.51.100.1', trusted), '203.0.113.9')
  t.equal(clientAddress('203.0.113.9', '10.0.0.1, 10.0.0.2', trusted), '203.0.113.9')
})

t.test('X-Forwarded-For is read from the right, as far as trusted proxies wrote it', async (t) => {
  const cases = [
    ['198.51.100.1', '198.51.100.1'],
    ['198.51.100.1, 10.0.0.9', '198.51.100.1'],
    ['198.51.100.1,10.0.0.9 ,\t192.168.1.7', '198.51.100.1'],
    // The client may have made these up: they are left of the first entry that no trusted proxy wrote.
    ['1.1.1.1, 198.51.100.1', '198.51.100.1'],
    ['10.0.0.5, 198.51.100.1, 10.0.0.9', '198.51.100.1'],
    ['1.1.1.1, 192.168.1.8, 10.0.0.9', '192.168.1.8'],
    // All entries are trusted: the leftmost is the best known address.
    ['10.0.0.3, 10.0.0.9', '10.0.0.3'],
    ['fd00::5, 10.0.0.9', 'fd00::5'],
    ['2001:db8::1, fd12:3456::1', '2001:db8::1'],
  ] as const
  for (const [list, client] of cases) t.equal(clientAddress('10.0.0.1', list, trusted), client, list)
})

t.test('ports, brackets and IPv4-mapped IPv6 are understood', async (t) => {
  const cases = [
    ['198.51.100.1:4711', '198.51.100.1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:443', '2001:db8::1'],
    ['::ffff:198.51.100.1', '198.51.100.1'],
    ['[::ffff:198.51.100.1]:80', '198.51.100.1'],
    ['198.51.100.1, ::ffff:10.0.0.2', '198.51.100.1'],
    ['198.51.100.1, ::FFFF:10.0.0.2', '198.51.100.1'],
    ['198.51.100.1, ::ffff:a00:2', '198.51.100.1'],
  ] as const
  for (const [list, client] of cases) t.equal(clientAddress('10.0.0.1', list, trusted), client, list)
  t.equal(clientAddress('::ffff:10.0.0.1', '198.51.100.1', trusted), '198.51.100.1')
  t.equal(
    clientAddress('10.0.0.1', '::ffff:fff:192.0.2.1', trusted),
    '::ffff:fff:192.0.2.1',
    'no IPv4 in that',
  )
  t.equal(clientAddress('::ffff:203.0.113.9', '198.51.100.1', trusted), '203.0.113.9')
})

t.test('reading stops at garbage, and the last known address stands for the client', async (t) => {
  const garbage = [
    'unknown',
    '',
    ' ',
    '198.51.100.256',
    '198.51.100',
    '0x7f.0.0.1',
    '127.1',
    '_hidden',
    'fe80::1%eth0',
    '[2001:db8::1',
    '[2001:db8::12',
    '[2001:db8::1]x',
    '[]',
    '[198.51.100.1]',
    '198.51.100.1:port',
    '198.51.100.1:',
    '198.51.100.1:123456',
    '2001:db8::1]:80',
    'for=198.51.100.1',
    "'198.51.100.1'",
    '198.51.100.1 198.51.100.2',
    'a'.repeat(5_000),
  ]
  for (const text of garbage) {
    const entry = text.slice(0, 30)
    t.equal(clientAddress('10.0.0.1', `198.51.100.1, ${text}`, trusted), '10.0.0.1', `after ${entry}`)
    t.equal(clientAddress('10.0.0.1', `1.1.1.1, ${text}, 10.0.0.9`, trusted), '10.0.0.9', `before ${entry}`)
  }
})

t.test('nothing that a client writes in front changes its address', async (t) => {
  const address = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.string({ maxLength: 20 }),
    fc.constantFrom('10.0.0.2', 'fd00::1'),
  )
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(address, { maxLength: 8 }), (forged) => {
        const list = [...forged, '203.0.113.9', '10.0.0.9'].join(',')
        return clientAddress('10.0.0.1', list, trusted) === '203.0.113.9'
      }),
      { numRuns: 2_000 },
    ),
  )
})
