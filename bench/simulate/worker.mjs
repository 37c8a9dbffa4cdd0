/** A thread of the simulation: takes parts of strata, and answers each with its tally. */
import { parentPort, workerData } from 'node:worker_threads'
import { randomFrom } from '../harness/random.mjs'
import { demandOf, ranksOf } from './population.mjs'
import { createTally } from './tally.mjs'
import { createUsers } from './user.mjs'

const { scenario, options } = workerData
const simulate = createUsers(scenario, options)
const demand = demandOf(scenario)

parentPort.on('message', ({ number, seed, stratum, first, last, rank, tier }) => {
  const random = randomFrom(seed)
  const tally = createTally(scenario)
  const ranks = rank === undefined ? ranksOf(stratum, first, last, random) : [rank]
  const users = ranks.map((one) =>
    simulate({ rank: one, tier: tier ?? stratum.tier, demand: demand(one) }, random, tally),
  )
  parentPort.postMessage({ number, tally, user: rank === undefined ? undefined : users[0] })
})
