/**
 * What a simulation counts: figures over time and by primary, and for each stratum what the error of the sampling follows from.
 * Plain arrays, so that threads can send them.
 */

/**
 * Requests by what became of them, by bucket and primary. `over` were admitted where a log of all admissions had no room, `under`
 * denied where it had. `exact` would have been admitted by a limiter that keeps such a log.
 */
export const FLOWS = [
  'requests',
  'asked',
  'remembered',
  'uncounted',
  'local',
  'closed',
  'denied',
  'over',
  'under',
  'exact',
]
/** Totals of one user whose sampling error is known. `keyMs`: how long there was a key. `seen`: 1 if the user asked at all. */
export const TOTALS = ['requests', 'asked', 'admitted', 'exact', 'denied', 'over', 'under', 'keyMs', 'seen']

/** @returns a tally of nothing; keys and bytes are kept as differences from one bucket to the next */
export function createTally({ buckets, primaries }) {
  const cells = () => new Float64Array(buckets * primaries)
  return {
    flows: Object.fromEntries(FLOWS.map((name) => [name, cells()])),
    keys: cells(),
    bytes: cells(),
    /** Pairs of a user and a gateway that counted in the mode local, by failure. */
    localPairs: [],
    sums: new Float64Array(TOTALS.length),
    squares: new Float64Array(TOTALS.length),
    /** Decisions of real limiters that the simulation made. */
    takes: 0,
  }
}

/** Adds one tally to another, each of its users `weight` times. */
export function addTally(to, from, weight = 1) {
  const add = (a, b) => {
    for (let i = 0; i < b.length; i++) a[i] += weight * b[i]
  }
  for (const name of FLOWS) add(to.flows[name], from.flows[name])
  add(to.keys, from.keys)
  add(to.bytes, from.bytes)
  from.localPairs.forEach((pairs, i) => {
    to.localPairs[i] = (to.localPairs[i] ?? 0) + weight * pairs
  })
}

/** Adds the totals of one user, for the sampling error. */
export function addUser(tally, totals) {
  TOTALS.forEach((name, i) => {
    tally.sums[i] += totals[name]
    tally.squares[i] += totals[name] ** 2
  })
}

/**
 * Returns the estimate of each total over a population, and the standard error of the sampling. Where all users of a stratum are
 * simulated it has none.
 *
 * @param strata of each the number of `users`, of `simulated`, and the `sums` and `squares` of the simulated
 */
export function estimate(strata) {
  return Object.fromEntries(
    TOTALS.map((name, i) => {
      let total = 0
      let variance = 0
      for (const { users, simulated: n, sums, squares } of strata) {
        total += (users / n) * sums[i]
        if (n < 2 || n >= users) continue
        const spread = Math.max(0, squares[i] - sums[i] ** 2 / n) / (n - 1)
        variance += users ** 2 * (1 - n / users) * (spread / n)
      }
      return [name, { total, error: Math.sqrt(variance) }]
    }),
  )
}

/** Turns differences from bucket to bucket into values. */
export function accumulated(differences, buckets, primaries) {
  const values = Float64Array.from(differences)
  for (let b = 1; b < buckets; b++) {
    for (let p = 0; p < primaries; p++) values[b * primaries + p] += values[(b - 1) * primaries + p]
  }
  return values
}
