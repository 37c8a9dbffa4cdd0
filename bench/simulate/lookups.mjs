/** How many requests a gateway has to look up in Redis, because it holds only the records of who was seen lately. */
import { demandOf, zipfSum } from './population.mjs'

const BANDS_PER_DECADE = 50

/**
 * Returns the share of requests whose user a gateway does not hold. A gateway holds the users seen last, so all that were seen within
 * some time: the time in which so many different ones come (Che's approximation, Hierarchical web caching systems, 2002). That share
 * does not depend on how many requests there are a second.
 *
 * @returns 0 if a gateway holds all
 */
export function missesOf(scenario) {
  const { users, assignments, wholeRecords, heldRecords } = scenario
  if (assignments <= wholeRecords || users <= heldRecords) return 0
  const bands = bandsOf(scenario)
  const all = bands.reduce((sum, { users: n, each }) => sum + n * each, 0)
  const heldWithin = (time) =>
    bands.reduce((sum, { users: n, each }) => sum - n * Math.expm1(-each * time), 0)
  let [low, high] = [0, 1]
  while (heldWithin(high) < heldRecords) high *= 2
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2
    if (heldWithin(middle) < heldRecords) low = middle
    else high = middle
  }
  return bands.reduce((sum, { users: n, each }) => sum + n * each * Math.exp(-each * high), 0) / all
}

function bandsOf(scenario) {
  const { users, zipf } = scenario
  const first = demandOf(scenario)(1)
  const bands = []
  for (let from = 1, i = 1; from <= users; i++) {
    const to = Math.min(users + 1, Math.max(from + 1, Math.ceil(10 ** (i / BANDS_PER_DECADE))))
    bands.push({ users: to - from, each: (first * zipfSum(from, to, zipf)) / (to - from) })
    from = to
  }
  return bands
}
