/**
 * The users of a simulation: how often each asks (Zipf), and which of them are simulated. The users that ask most are all
 * simulated. The others are split into strata, by rank and by tier. Of each stratum some are simulated, and each of them stands
 * for as many as it has to.
 */

/** Users that are all simulated. */
export const HEAD = 32
/** Bands of ranks from one power of ten to the next. */
const BANDS_PER_DECADE = 8
/** Share of the work that each tier gets: rare tiers get more than their share of users. */
const WORK = { first: 0.6, others: 0.4 }
/** Fewest users of a stratum that are simulated, or all if it has fewer. */
const LEAST = 4
/** Ranks of a band up to which its users are listed. Larger bands lie beyond `headUsers`. */
const SMALL = 20_000
const GOLDEN = (Math.sqrt(5) - 1) / 2

/** Returns the sum of r^-s over the ranks from a on, up to but without b (Euler–Maclaurin). */
export function zipfSum(a, b, s) {
  const f = (x) => x ** -s
  if (b - a < 64) {
    let sum = 0
    for (let r = a; r < b; r++) sum += f(r)
    return sum
  }
  const near = zipfSum(a, a + 32, s)
  const from = a + 32
  const integral = s === 1 ? Math.log(b / from) : (b ** (1 - s) - from ** (1 - s)) / (1 - s)
  return near + integral + (f(from) - f(b)) / 2 + (s / 12) * (from ** (-s - 1) - b ** (-s - 1))
}

/** Returns a function of a rank that gives the requests which that user is expected to send in the run. */
export function demandOf({ users, requestsPerUser, zipf }) {
  const first = (users * requestsPerUser) / zipfSum(1, users + 1, zipf)
  return (rank) => first * rank ** -zipf
}

/**
 * Returns the strata of a population: all users of one tier within a band of ranks.
 *
 * @param takes about how many decisions the simulated users of all strata but the head's may ask for
 * @returns of each: the tier, the ranks from `from` on, up to but without `to`, in small bands its `ranks` one by one, how many `users`
 *   it has, how many of them are `simulated`, and how many decisions `each` is expected to ask for
 */
export function strataOf(scenario, takes) {
  const demand = demandOf(scenario)
  const names = Object.keys(scenario.tiers)
  const bands = bandsOf(scenario.users)
  return bands.flatMap(({ from, to }) => {
    const ranks = to - from > SMALL ? [] : Array.from({ length: to - from }, (_, i) => from + i)
    return names.flatMap((tier, i) => {
      const own = ranks.filter((rank) => tierOf(scenario, rank) === tier)
      const users = ranks.length > 0 ? own.length : (to - from) * scenario.tiers[tier].ofRest
      if (users === 0) return []
      const each = Math.max(1, demand(Math.sqrt(from * to)))
      const work =
        (takes / bands.length) * (i === 0 ? WORK.first : WORK.others / Math.max(1, names.length - 1))
      const simulated = Math.ceil(Math.min(users, Math.max(LEAST, work / each)))
      return [{ tier, from, to, ranks: own, users, simulated, each }]
    })
  })
}

function bandsOf(users) {
  const edges = [Math.min(HEAD, users) + 1]
  for (let i = 1; edges.at(-1) <= users; i++) {
    edges.push(Math.min(users + 1, Math.ceil(HEAD * 10 ** (i / BANDS_PER_DECADE)) + 1))
  }
  return edges.slice(1).map((to, i) => ({ from: edges[i], to }))
}

/** Returns the ranks of simulated users i to j - 1 of a stratum: spread evenly, each at a random place of its part. */
export function ranksOf(scenario, { tier, from, to, ranks, simulated }, i, j, random) {
  const places = ranks.length || to - from
  return Array.from({ length: j - i }, (_, k) => {
    const place = Math.floor(((i + k + random()) * places) / simulated)
    if (ranks.length > 0) return ranks[place]
    // The next user of the tier. At the end of the band, the search goes on at its beginning.
    let rank = from + place
    while (tierOf(scenario, rank) !== tier) rank = rank + 1 < to ? rank + 1 : from
    return rank
  })
}

/**
 * Returns the tier of a user. Multiples of the golden ratio are spread evenly, so each tier has its share of any range of ranks, as near
 * as can be, and the same user always has the same one.
 */
export function tierOf({ tiers, headUsers }, rank) {
  const place = (rank * GOLDEN) % 1
  let sum = 0
  for (const [name, { ofHead, ofRest }] of Object.entries(tiers)) {
    sum += rank <= headUsers ? ofHead : ofRest
    if (place < sum) return name
  }
  return Object.keys(tiers).at(-1)
}

/** Returns the users that ask most, with their tiers. */
export function headOf(scenario) {
  return Array.from({ length: Math.min(HEAD, scenario.users) }, (_, i) => ({
    rank: i + 1,
    tier: tierOf(scenario, i + 1),
  }))
}

/** Returns the id of a user, of `idLength` characters. */
export const idOf = (rank, idLength) => `u${String(rank).padStart(idLength - 1, '0')}`
