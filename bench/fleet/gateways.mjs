/**
 * Runs the limiters, stores and fleet parts of several gateways in one process, each with connections of its own. Answers each message
 * `{ id, job, ... }` with `{ id, ... }`.
 */
import { createHash } from 'node:crypto'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

const { dist, redis, count } = JSON.parse(process.argv[2])
const from = (file) => import(pathToFileURL(path.join(dist, file)).href)
const { openStore } = await from('fleet/open-store.js')
const { createKeyring } = await from('fleet/keyring.js')
const { policyOf } = await from('config/snapshot/policy.js')

const log = { info() {}, warn() {} }
const settings = {
  redis,
  timeout: 1000,
  max_keys: 10_000,
  batch: 64,
  merge: true,
  gather: 'auto',
  denials: 10_000,
  own_connection: true,
}
const HOUR = 3_600_000

const gateways = Array.from({ length: count }, () => {
  const store = openStore(settings, log, { fleet: 'member' })
  const keyring = createKeyring({ store: () => store.keys })
  return { store, keyring, keysReady: keyring.hold(true) }
})
await Promise.all(
  gateways.map(({ store, keysReady }) => Promise.all([store.ready, store.assignments.ready, keysReady])),
)

const policies = new Map()
function limited(amount, onFailure) {
  const name = `${amount} ${onFailure}`
  let found = policies.get(name)
  if (found === undefined) {
    const limit = { name: '1h', algorithm: 'sliding', by: 'consumer', amount, windowMs: HOUR, burst: amount }
    const policy = policyOf([limit], { refunds: false, candidate: undefined })
    found = { policy, service: { index: 0, name: 'fleet', upstreams: [], onFailure, policies: [policy] } }
    policies.set(name, found)
  }
  return found
}

const storedKey = (id, name) => ({
  id,
  sha256: createHash('sha256').update(id).digest('hex'),
  consumer: 'fleet',
  name,
  created: Date.now(),
  scopes: [],
})

/** How each change is made on one gateway, and how a gateway shows that it is in force. */
const CHANGES = {
  tier: {
    make: ({ store }, key, text) => store.assignments.set(key, text),
    shown: ({ store }, key) => store.assignments.get(key)?.tier,
  },
  ban: {
    make: ({ store }, key, text) =>
      store.bans.map.set(key, {
        source: 'manual',
        since: Date.now(),
        until: Date.now() + HOUR,
        reason: text,
      }),
    shown: ({ store }, key) => store.bans.map.get(key)?.reason,
  },
  key: {
    make: ({ store }, key, text) => store.keys.keys().set(key, storedKey(key, text)),
    shown: ({ store }, key) => store.keys.keys().get(key)?.name,
  },
  boost: {
    make: ({ store }, key, text) =>
      store.amounts.map.set(key, { amount: 10, until: Date.now() + HOUR, reason: text }),
    shown: ({ store }, key) => store.amounts.map.get(key)?.reason,
  },
}

const JOBS = {
  /** Takes quota on every gateway, `rate` times a second in all, for some ms. Answers what was decided. */
  async take({ consumers, amount, onFailure, rate, ms }) {
    const { policy, service } = limited(amount, onFailure)
    const seen = { allowed: 0, denied: 0, degraded: 0, by: {} }
    const decisions = []
    const start = performance.now()
    let asked = 0
    while (performance.now() - start < ms) {
      const due = Math.floor(((performance.now() - start) * rate) / 1000)
      for (; asked < due; asked++) {
        const { store } = gateways[asked % count]
        const consumer = consumers[Math.floor(Math.random() * consumers.length)]
        decisions.push(
          Promise.resolve(store.limiter.take(service, policy, consumer, 1)).then((decision) => {
            if (decision.reason !== undefined) seen.degraded++
            if (!decision.allowed) seen.denied++
            else {
              seen.allowed++
              seen.by[consumer] = (seen.by[consumer] ?? 0) + 1
            }
          }),
        )
      }
      await delay(5)
    }
    await Promise.all(decisions)
    return seen
  },
  /** Makes a change on the first gateway. Answers the unix ms before and after. */
  async change({ kind, key, text }) {
    const began = Date.now()
    await CHANGES[kind].make(gateways[0], key, text)
    return { began, done: Date.now() }
  },
  /**
   * Waits until a change is in force on every gateway. Answers the unix ms at which each had it, 0 for never, and the longest time that
   * this process stood still meanwhile, in ms.
   */
  async watch({ kind, key, text, ms }) {
    const at = Array(count).fill(0)
    const end = Date.now() + ms
    let looked = Date.now()
    let stalled = 0
    for (let missing = count; missing > 0 && Date.now() < end; ) {
      stalled = Math.max(stalled, Date.now() - looked)
      looked = Date.now()
      for (const [i, gateway] of gateways.entries()) {
        if (at[i] === 0 && CHANGES[kind].shown(gateway, key) === text) {
          at[i] = Date.now()
          missing--
        }
      }
      if (missing > 0) await delay(2)
    }
    return { at, stalled }
  },
  /** Answers how many gateways each knows, and how many take decisions from the store. */
  async state() {
    return {
      counts: gateways.map(({ store }) => store.heartbeat?.count()),
      up: gateways.filter(({ store }) => store.limiter.state() === 'up').length,
      confirmed: Math.min(...gateways.map(({ store }) => store.keys.keys().confirmedAt())),
    }
  },
  /** Answers how many maps know that the store has forgotten them, and how many tiers are in force. */
  async history() {
    const [{ store }] = gateways
    const histories = store.maps().map((map) => map.history())
    return {
      forgotten: histories.filter(({ forgottenAt }) => forgottenAt !== undefined).length,
      tiers: histories.find(({ what }) => what === 'tier assignments').held,
    }
  },
}

process.on('disconnect', () => process.exit())
process.on('message', async ({ id, job, ...rest }) => {
  try {
    process.send({ id, ...(await JOBS[job](rest)) })
  } catch (error) {
    process.send({ id, error: error.message })
  }
})
process.send({ ready: true })
