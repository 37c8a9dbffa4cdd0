import fc from 'fast-check'
import t from 'tap'
import { addressKey, isAddressKey, plainAddress } from '../../src/net/address-key.js'

t.test('an IPv4 address is counted by itself, an IPv6 address by its /64', async (t) => {
  t.equal(addressKey('198.51.100.1'), '198.51.100.1')
  t.equal(addressKey('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
  t.equal(addressKey('2001:db8:1:2:ffff::1'), '2001:db8:1:2::/64')
  t.equal(addressKey('2001:DB8:1:2::1'), '2001:db8:1:2::/64', 'in whatever case')
  t.equal(addressKey('2001:db8:1:3::1'), '2001:db8:1:3::/64')
  t.equal(addressKey('::1'), '0:0:0:0::/64')
  t.equal(addressKey('fe80::1%eth0'), 'fe80:0:0:0::/64', 'without its zone')
})

t.test('an IPv4 address is one consumer, whether written as IPv4 or IPv6', async (t) => {
  t.equal(plainAddress('::ffff:198.51.100.1'), '198.51.100.1')
  for (const dress of [
    '::ffff:198.51.100.1',
    '::FFFF:198.51.100.1',
    '::ffff:c633:6401',
    '0:0:0:0:0:ffff:c633:6401',
  ]) {
    t.equal(addressKey(plainAddress(dress)), '198.51.100.1', dress)
  }
  t.equal(addressKey('::198.51.100.1'), '0:0:0:0::/64', 'the outdated form is not IPv4')
})

t.test('two addresses of one /64 are one consumer; of different /64s they never are', async (t) => {
  const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 4, maxLength: 4 })
  const text = (parts: readonly number[]) => parts.map((part) => part.toString(16)).join(':')
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(groups, groups, groups, groups, (net, other, host, guest) => {
        fc.pre(text(net) !== '0:0:0:0' && text(other) !== '0:0:0:0')
        const consumer = addressKey(`${text(net)}:${text(host)}`)
        return (
          consumer === addressKey(`${text(net)}:${text(guest)}`) &&
          (consumer === addressKey(`${text(other)}:${text(host)}`)) === (text(net) === text(other))
        )
      }),
    ),
  )
})

t.test('isAddressKey tells keys made of an address from other names', async (t) => {
  for (const key of ['198.51.100.1', '2001:db8:1:2::/64', '0:0:0:0::/64']) t.ok(isAddressKey(key), key)
  for (const other of [
    '',
    'acme',
    '2001:db8::1',
    '2001:db8::/64',
    '2001:DB8:1:2::/64',
    '198.51.100.1/32',
    '::/64',
  ])
    t.notOk(isAddressKey(other), other)
})
