/** A thread of the simulation: takes parts of strata, and answers each with its tally. */
import { parentPort, workerData } from 'node:worker_threads'
import { randomFrom } from '../harness/random.mjs'
import { demandOf, ranksOf } from './population.mjs'
import { createTally } from './tally.mjs'
import { createUsers } from './user.mjs'

const { scenario, options } = workerData
const simulate = createUsers(scenario, options)
const demand = demandOf(scenario)
const tiers = Object.keys(scenario.tiers)

/** Returns the seed of a user's day. It is the same in every sample, so that samples differ by their users only. */
function seedOf(rank, tier) {
  // The last steps of MurmurHash3: near ranks get seeds that have nothing in common.
  let hash = Math.imul(rank, tiers.length) + tiers.indexOf(tier)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}

parentPort.on('message', ({ number, seed, stratum, first, last, rank, tier }) => {
  const tally = createTally(scenario)
  const ranks = rank === undefined ? ranksOf(scenario, stratum, first, last, randomFrom(seed)) : [rank]
  const users = ranks.map((one) => {
    const user = { rank: one, tier: tier ?? stratum.tier, demand: demand(one) }
    return simulate(user, randomFrom(seedOf(one, user.tier)), tally)
  })
  parentPort.postMessage({ number, tally, user: rank === undefined ? undefined : users[0] })
})
