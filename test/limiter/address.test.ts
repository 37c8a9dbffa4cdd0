import t from 'tap'
import { parseAddress } from '../../src/limiter/address.js'

t.test('reads one server', async (t) => {
  t.same(parseAddress('redis://127.0.0.1'), {
    hosts: [{ host: '127.0.0.1', port: 6379 }],
    sentinelPrimary: undefined,
    db: 0,
    username: undefined,
    password: undefined,
    tls: false,
  })
  t.match(parseAddress('rediss://app:p%40ss@[::1]:6380/3'), {
    hosts: [{ host: '::1', port: 6380 }],
    db: 3,
    username: 'app',
    password: 'p@ss',
    tls: true,
  })
  t.match(parseAddress('redis://:secret@redis.internal/'), { username: undefined, password: 'secret', db: 0 })
})

t.test('reads a primary that Sentinel names', async (t) => {
  t.match(parseAddress('redis+sentinel://:pw@a,b:26380/mymaster/2'), {
    hosts: [
      { host: 'a', port: 26379 },
      { host: 'b', port: 26380 },
    ],
    sentinelPrimary: 'mymaster',
    db: 2,
    password: 'pw',
  })
})

t.test('says what is wrong without repeating what may hold a password', async (t) => {
  for (const [address, message] of [
    ['http://:hunter2@host', /not of the form redis:\/\//],
    ['redis://:hunter2@ho st', /host or port/],
    ['redis://:hunter2@host:99999', /host or port/],
    ['redis://:hunter2@host/zero', /database number/],
    ['redis://:hunter2@host/0/1', /database number/],
    ['redis://:hunter2@a,b', /list of addresses/],
    ['redis+sentinel://:hunter2@host', /no primary/],
    ['redis://:hunter2%@host', /percent-encoded/],
    ['redis://:hunter2@x@host', /percent-encode/],
  ] as const) {
    t.throws(() => parseAddress(address), { message }, address)
    try {
      parseAddress(address)
    } catch (error) {
      t.notMatch(String(error), /hunter2/)
    }
  }
})
