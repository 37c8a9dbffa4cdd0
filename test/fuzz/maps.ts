import fc from 'fast-check'
import type { Test } from 'tap'
import { API_KEYS } from '../../src/fleet/api-keys.js'
import { ASSIGNMENTS } from '../../src/fleet/assignments.js'
import { BANS, type Ban, createBans } from '../../src/fleet/bans.js'
import { AMOUNTS, type Amount, createAmounts } from '../../src/fleet/overrides.js'
import { openSubscriber } from '../../src/fleet/pubsub.js'
import type { MapShape, ReplicatedMap } from '../../src/fleet/replicated-map.js'
import { createRedisMap } from '../../src/fleet/replicated-map-redis.js'
import { channelOf, connectStore } from '../../src/limiter/redis/connect.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf } from '../support/gateway/gateway.js'
import { startRedis } from '../support/redis/redis.js'
import { within } from '../support/within.js'
import { holds, must, mutated, type Target } from './target.js'

const SHA256 = '9f8cfdb17116bf0e2a44e071454f25594cb9b8737bf331e6a2f0b30550572f29'
const good = <V>(shape: MapShape<V>, key: string, text: string) => ({
  shape: shape as unknown as MapShape<unknown>,
  key,
  text,
})
/** A valid key and value of each map: the written text is made of these. */
const GOOD = [
  good(ASSIGNMENTS, 'acme', 'pro 4795579533811'),
  good(AMOUNTS, 'boost:consumer:api:minute:acme', '{"amount":500,"until":4795579533811,"reason":"ticket"}'),
  good(
    BANS,
    '203.0.113.0/24',
    '{"source":"manual","since":1795579533811,"until":4795579533811,"reason":"x"}',
  ),
  good(
    API_KEYS,
    SHA256.slice(0, 16),
    `{"sha256":"${SHA256}","consumer":"acme","tier":"pro","scopes":["a"],"created":1795579533811,"expires":4795579533811}`,
  ),
]
const TOKENS = [
  ...['"', ',', ':', '{', '}', '[', ']', 'null', 'true', ' ', '\0', '\n', '\u{1b}', '\u202e'],
  ...['0', '-1', '1e300', '-1e300', '1e-7', '8640000000000001', '9007199254740991', '9007199254740993'],
  ...['__proto__', 'constructor', 'until', 'since', 'amount', 'auto', '/0', '::/0', '0.0.0.0', '%2F'],
]

interface Written {
  readonly which: number
  readonly key: string
  readonly text: string
  /** Text in the message in place of its number. */
  readonly number: string
  /** Part of the whole message that is left. */
  readonly message: string | undefined
}

const written: fc.Arbitrary<Written> = fc.nat(GOOD.length - 1).chain((which) =>
  fc.record({
    which: fc.constant(which),
    key: mutated(fc.constant(GOOD[which]!.key), TOKENS, 2),
    text: mutated(fc.constant(GOOD[which]!.text), TOKENS, 3),
    number: fc.constantFrom('9007199254740991', '1', '0', '-1', '1e300', '"7"', 'null', '9007199254740993'),
    message: fc.option(mutated(fc.constant('[5,"acme","pro"]'), TOKENS), { nil: undefined }),
  }),
)

/** Reads everything that commands show of a value: numbers are computed with, times are formatted. */
function mustBeWhole(value: unknown, name = 'value'): void {
  if (typeof value === 'object' && value !== null) {
    for (const [key, part] of Object.entries(value)) mustBeWhole(part, key)
  } else if (typeof value === 'number') {
    must(Number.isSafeInteger(value), `${name} is ${value}`)
    if (name !== 'amount' && name !== 'told')
      must(!Number.isNaN(new Date(value).getTime()), `${name} is no date: ${value}`)
  }
}

export const maps: Target = {
  name: 'maps',
  what: 'whatever Redis holds or publishes of tiers, boosts, bans and keys, the gateway can show and use its copy, and applies the next change',
  short: 150,
  async open(t) {
    const redis = await startRedis(t as Test)
    const quiet = { info() {}, warn() {} }
    const store = connectStore({ redis: redis.url }, quiet)
    const subscriber = openSubscriber(store)
    const held = GOOD.map(({ shape }) => createRedisMap(shape, { store, subscriber, log: quiet, pollMs: 20 }))
    const [, ofAmounts, ofBans] = held
    const amounts = createAmounts(ofAmounts as ReplicatedMap<Amount>)
    const bans = createBans({ map: ofBans as ReplicatedMap<Ban> })
    const { services } = snapshotOf(
      'tiers: [free]\nservices: { api: { upstreams: [http://a], limits: { free: 10/min } } }\nroutes: [{ path: /*, service: api }]',
    )
    const [service] = services
    const channel = (name: string) => channelOf(store, `${name}:changed`)
    await Promise.all(held.map(({ ready }) => ready))
    const hears = () => GOOD.every(({ shape: { name } }) => subscriber.hears(channel(name)))
    await eventually('messages are heard', hears, 5000)
    t.teardown(async () => {
      bans.close()
      subscriber.close()
      await Promise.all(held.map((map) => map.close()))
      store.disconnect()
    })

    const heard = held.map(() => new Map<string | undefined, () => void>())
    for (const [i, map] of held.entries()) map.onChange((key) => heard[i]!.get(key)?.())

    /** Resolves when a change that is published now has been heard. The channel keeps order, so all earlier ones were heard, too. */
    async function nextIsHeard(i: number): Promise<void> {
      const { shape, text } = GOOD[i]!
      const heardOf = new Promise<void>((resolve) => heard[i]!.set('last', resolve))
      const message = JSON.stringify([Number.MAX_SAFE_INTEGER, 'last', text])
      await redis.client.publish(channel(shape.name), message)
      await within(5000, `a message of ${shape.what}`, heardOf)
    }

    async function nextHolds(i: number): Promise<void> {
      const { shape, key, text } = GOOD[i]!
      await held[i]!.set(key, shape.parse(text))
      await eventually(`the next change of ${shape.what} holds`, () => held[i]!.get(key) !== undefined, 5000)
    }

    return holds(fc.array(written, { minLength: 1, maxLength: 12 }), async (all) => {
      for (const { which, key, text, number, message } of all) {
        const { name } = GOOD[which]!.shape
        if (text !== '') await redis.client.hset(name, key, text)
        const sent = message ?? `[${number},${JSON.stringify(key)},${JSON.stringify(text)}]`
        await redis.client.publish(channel(name), sent)
        mustBeWhole(await held[which]!.read(key))
      }
      for (const [i, map] of held.entries()) {
        await nextIsHeard(i)
        await nextHolds(i)
        for (const value of map.entries().values()) mustBeWhole(value)
      }
      const policy = amounts.policyFor(service!, service!.policies[0]!, 'acme', undefined)
      must(
        policy.limits.every(({ amount }) => Number.isSafeInteger(amount) && amount > 0),
        'amounts of a policy',
      )
      must(bans.match(4, Uint32Array.of(0xcb007107, 0, 0, 0))?.ban !== undefined, 'a ban is lost')
      // Not the number of the latest change: that would look like a store that counts anew without a lost connection.
      await Promise.all(GOOD.map(({ shape: { name } }) => redis.client.del(name)))
    })
  },
}
