/** Runs a simulation on all cores, and adds its parts up. The same seed gives the same figures, however many threads there are. */
import os from 'node:os'
import { Worker } from 'node:worker_threads'
import { randomFrom } from '../harness/random.mjs'
import { headOf, strataOf } from './population.mjs'
import { addTally, createTally, estimate } from './tally.mjs'

/** Decisions of one job of a thread, about. */
const JOB = 200_000

/**
 * Simulates a scenario.
 *
 * @param takes about how many decisions the sampled users ask for. The users that ask most are always simulated whole
 * @param withHead false: only the sampled users, whose error is known, are simulated
 * @returns the tally of the whole population, totals with their standard errors, and the users that ask most
 */
export async function simulate(
  scenario,
  { takes, seed, withHead = true, threads = os.availableParallelism(), ...options },
) {
  const strata = strataOf(scenario, takes)
  const busiest = withHead ? headOf(scenario) : []
  const jobs = jobsOf(strata, busiest, randomFrom(seed))
  const answers = await inThreads(jobs, scenario, options, threads)

  const whole = createTally(scenario)
  const head = []
  const counted = strata.map(({ users, simulated }) => ({ users, simulated, ...noTotals() }))
  const alone = []
  for (const [i, { tally, user }] of answers.entries()) {
    const { of } = jobs[i]
    if (user !== undefined) head.push(user)
    if (user !== undefined) alone.push({ users: 1, simulated: 1, sums: tally.sums, squares: tally.squares })
    else addTotals(counted[of], tally)
    addTally(whole, tally, user === undefined ? strata[of].users / strata[of].simulated : 1)
  }
  const simulated = head.length + strata.reduce((sum, one) => sum + one.simulated, 0)
  const made = answers.reduce((sum, { tally }) => sum + tally.takes, 0)
  return { tally: whole, totals: estimate([...alone, ...counted]), head, simulated, takes: made }
}

const noTotals = () => ({ sums: createTotals(), squares: createTotals() })
const createTotals = () => createTally({ buckets: 0, primaries: 0 }).sums

function addTotals(to, { sums, squares }) {
  for (let i = 0; i < sums.length; i++) {
    to.sums[i] += sums[i]
    to.squares[i] += squares[i]
  }
}

/** The largest first, so that no thread is left alone with one at the end. */
function jobsOf(strata, busiest, random) {
  const job = (fields) => ({ seed: Math.floor(random() * 2 ** 32), ...fields })
  const head = busiest.map(({ rank, tier }) => job({ rank, tier, of: -1 }))
  const rest = strata.flatMap((stratum, of) => {
    const size = Math.max(1, Math.floor(JOB / stratum.each))
    const parts = Math.ceil(stratum.simulated / size)
    return Array.from({ length: parts }, (_, i) =>
      job({ stratum, of, first: i * size, last: Math.min(stratum.simulated, (i + 1) * size) }),
    )
  })
  return [...head, ...rest].map((one, number) => ({ number, ...one }))
}

function inThreads(jobs, scenario, options, threads) {
  const answers = new Array(jobs.length)
  let next = 0
  const run = () =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL('worker.mjs', import.meta.url), { workerData: { scenario, options } })
      const give = () => {
        if (next < jobs.length) worker.postMessage(jobs[next++])
        else worker.terminate().then(resolve)
      }
      worker.on('error', reject)
      worker.on('message', (answer) => {
        answers[answer.number] = answer
        give()
      })
      give()
    })
  return Promise.all(Array.from({ length: Math.min(threads, jobs.length) }, run)).then(() => answers)
}
