/** Turns decisions into calls, messages, CPU, memory and money, by the measured costs of the assumptions. */
import { missesOf } from './lookups.mjs'
import { bytesOfTables } from './redis-memory.mjs'
import { accumulated, FLOWS } from './tally.mjs'

/** As in src/limiter/redis/gather.ts: how long a decision waits for others, in s, and how many are sent without waiting. */
const GATHER = 0.0005
const ENOUGH = 3
/** Share of waits that has to bring another decision. */
const PAYS = 0.5
const GIB = 2 ** 30
/** Redis memory of an assigned tier, in bytes (docs/capacity.md). */
const ASSIGNMENT = 72

/** Returns how many decisions of a gateway go out together, at `rate` decisions a second (store.gather: auto). */
export function togetherAt(rate) {
  const mean = rate * GATHER
  if (1 - Math.exp(-mean) < PAYS) return 1
  // 1, and as many as come within the time, up to ENOUGH.
  let together = 1
  let term = Math.exp(-mean)
  let below = term
  for (let k = 1; k < ENOUGH; k++) {
    together += 1 - below
    term *= mean / k
    below += term
  }
  // What comes while the event loop is busy goes out together, too.
  return Math.max(together, mean)
}

/** Returns the utilisation that solves u = per × (idle - (idle - busy) × u) + rest: work costs less where more of it comes. */
export function utilisation(perSecond, { idle, busy }, restUs = 0) {
  const us = 1e-6
  return ((perSecond * idle + restUs) * us) / (1 + perSecond * (idle - busy) * us)
}

/** Returns the requests a second at which a gateway is that busy. */
export function rateAt(busiest, { idle, busy }) {
  return (1e6 * busiest) / (idle - (idle - busy) * busiest)
}

/**
 * Returns the load of each bucket: rates a second, memory, shares of a core.
 *
 * @param result of `simulate`
 */
export function loadsOf(scenario, { tally }) {
  const { buckets, primaries, runMs } = scenario
  const seconds = runMs / buckets / 1000
  const keys = accumulated(tally.keys, buckets, primaries)
  const bytes = accumulated(tally.bytes, buckets, primaries)
  const misses = missesOf(scenario)
  return Array.from({ length: buckets }, (_, b) => {
    const of = (cells, p) => cells[b * primaries + p]
    const each = (flow) => Array.from({ length: primaries }, (_, p) => of(tally.flows[flow], p) / seconds)
    const rates = Object.fromEntries(FLOWS.map((flow) => [flow, sumOf(each(flow))]))
    const asked = each('asked')
    const alive = aliveAt(scenario, (b + 0.5) * seconds * 1000)
    const lookups = misses * rates.requests
    const redis = asked.map((own, p) =>
      redisOf(scenario, { asked: own, all: rates.asked, alive, lookups, p }),
    )
    const memory = asked.map((_, p) => of(bytes, p) + bytesOfTables(of(keys, p), primaries))
    return {
      hour: ((b + 0.5) * seconds) / 3600,
      ...rates,
      alive,
      lookups,
      keys: sumOf(asked.map((_, p) => of(keys, p))),
      memory,
      asksOfPrimary: asked,
      redis: redis.map(({ core }) => core),
      messages: sumOf(redis.map(({ messages }) => messages)),
      gateway: gatewayOf(scenario, rates, alive),
    }
  })
}

const sumOf = (values) => values.reduce((sum, n) => sum + n, 0)

function aliveAt({ failures, gateways }, ms) {
  const killed = failures.filter(({ kind, at, for: time }) => kind === 'killed' && at <= ms && ms < at + time)
  return Math.max(1, gateways - sumOf(killed.map(({ count }) => count)))
}

/** Returns the share of a core that a primary takes, and the commands a second that reach it. */
function redisOf(scenario, { asked, all, alive, lookups, p }) {
  const { primaries, tiers, usPerWrite, usPerCall, usPerDecision, usPerLimit, usPerMessage } = scenario
  const together = togetherAt(all / alive)
  const clustered = primaries > 1
  // Decisions that go out together go to different primaries of a Cluster, and there each has a call of its own.
  const spread = clustered ? (primaries * (1 - (1 - 1 / primaries) ** together)) / together : 1 / together
  const writes = asked * spread
  const calls = clustered ? asked : writes
  const limits = Math.max(...Object.values(tiers).map((tier) => tier.limits.length))
  const chatter = chatterOf(scenario, alive)
  // The keys of the heartbeat are in one slot.
  const beats = p === 0 ? chatter.beats : 0
  const own = lookups / primaries
  const sent = (p === 0 ? chatter.messages : 0) * usPerMessage
  const scripts = (calls + beats) * usPerCall + asked * (usPerDecision + usPerLimit * (limits - 1)) + own * 2
  return {
    core: utilisation(writes + beats + own, usPerWrite, scripts + sent),
    messages: calls + beats + own + (p === 0 ? chatter.messages : 0),
  }
}

/** Returns what gateways say without requests: script calls, and messages that Redis passes on, a second. */
export function chatterOf({ heartbeats, announcements, changesPerHour }, gateways) {
  return { beats: gateways * (heartbeats + announcements), messages: (changesPerHour / 3600) * gateways }
}

function gatewayOf({ usPerRequest, deniedCost }, { requests, denied }, alive) {
  return utilisation((requests - denied + denied * deniedCost) / alive, usPerRequest)
}

/** Returns what the peak needs, and what the run costs. */
export function needsOf(scenario, loads) {
  const { gateways, primaries, usPerRequest, busiest, maxmemory, assignments } = scenario
  const most = (of) => Math.max(...loads.map(of))
  const fullest = most(({ memory }) => Math.max(...memory)) + (ASSIGNMENT * assignments) / primaries
  const redis = most(({ redis }) => Math.max(...redis))
  const requests = most((load) => load.requests)
  const total = (sumOf(loads.map((load) => load.requests)) * scenario.runMs) / loads.length / 1000
  const hours = scenario.runMs / 3_600_000
  const perHour =
    gateways * scenario.gatewayPrice +
    2 * primaries * (scenario.redisCorePrice + 2 * maxmemory * scenario.redisGibPrice)
  return {
    requests,
    fullest,
    redis,
    gateway: most(({ gateway }) => gateway),
    gatewaysNeeded: Math.ceil(requests / rateAt(busiest, usPerRequest)),
    primariesForMemory: Math.ceil((primaries * fullest) / (maxmemory * GIB)),
    primariesForCpu: Math.ceil((primaries * redis) / busiest),
    perMillion: (perHour * hours) / (total / 1e6),
    gatewayShare: (gateways * scenario.gatewayPrice) / perHour,
  }
}
