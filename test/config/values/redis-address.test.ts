import t from 'tap'
import { readClusterNode, readRedisAddress } from '../../../src/config/values/redis-address.js'

/** Returns what is wrong, and what to do. */
function complaint(read: typeof readRedisAddress, text: string): string | undefined {
  let said: string | undefined
  const address = read(text, (wrong, fix) => {
    said = `${wrong}; ${fix}`
  })
  return address === undefined ? said : undefined
}

const good = (text: string) => {
  const address = readRedisAddress(text, (wrong) => {
    throw new Error(wrong)
  })
  return address!
}

t.test('parses a single server', async (t) => {
  t.same(good('redis://127.0.0.1'), {
    hosts: [{ host: '127.0.0.1', port: 6379 }],
    sentinelPrimary: undefined,
    db: 0,
    username: undefined,
    password: undefined,
    tls: false,
  })
  t.match(good('rediss://app:p%40ss@[::1]:6380/3'), {
    hosts: [{ host: '::1', port: 6380 }],
    db: 3,
    username: 'app',
    password: 'p@ss',
    tls: true,
  })
  t.match(good('redis://:secret@redis.internal/'), { username: undefined, password: 'secret', db: 0 })
})

t.test('parses a primary that Sentinel names', async (t) => {
  t.match(good('redis+sentinel://:pw@a,b:26380/mymaster/2'), {
    hosts: [
      { host: 'a', port: 26379 },
      { host: 'b', port: 26380 },
    ],
    sentinelPrimary: 'mymaster',
    db: 2,
    password: 'pw',
    tls: false,
  })
  t.match(good('rediss+sentinel://a/mymaster'), { sentinelPrimary: 'mymaster', tls: true })
})

t.test('reports errors without parts that may be a password', async (t) => {
  for (const [address, message] of [
    ['http://:hunter2@host', /not the address of a Redis server/],
    ['redis://:hunter2@ho st', /host or port/],
    ['redis://:hunter2@host:99999', /host or port/],
    ['redis://:hunter2@host/zero', /database number/],
    ['redis://:hunter2@host/0/1', /database number/],
    ['redis://:hunter2@a,b', /write a list/],
    ['redis+sentinel://:hunter2@host', /no primary/],
    ['redis+sentinel://:hunter2@host/primary/x', /database number/],
    ['redis://:hunter2%@host', /percent-encoding/],
    ['redis://:hunter2@x@host', /as %40/],
  ] as const) {
    const said = complaint(readRedisAddress, address)
    t.match(said, message, address)
    t.notMatch(said, /hunter2/)
  }
})

t.test('a Cluster node is one server, without a database number', async (t) => {
  t.equal(complaint(readClusterNode, 'redis://a:7000'), undefined)
  t.match(complaint(readClusterNode, 'redis+sentinel://a/primary'), /instead of a list/)
  t.match(complaint(readClusterNode, 'redis://a/1'), /database number/)
})
