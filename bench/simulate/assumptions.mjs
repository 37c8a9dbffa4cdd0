/**
 * The assumptions of `npm run simulate`: one table. Everything that a run takes for granted stands here, with its reason.
 * `--set NAME=VALUE` replaces a value by JSON.
 */

const SECOND = 1000
const HOUR = 3600 * SECOND

/** Share of an even day's requests in each hour: a night, a morning, an afternoon peak. Mean 1. */
const HOURS = [
  0.55, 0.42, 0.34, 0.3, 0.31, 0.38, 0.55, 0.8, 1.05, 1.22, 1.3, 1.33, 1.34, 1.36, 1.4, 1.44, 1.48, 1.52,
  1.55, 1.5, 1.35, 1.12, 0.88, 0.71,
]

/**
 * Tiers in the words of the configuration. `ofHead` is the share of a tier among the users that ask most (`headUsers`),
 * `ofRest` among all others.
 */
const TIERS = {
  free: { limits: ['5/s', '60/min', '1000/h'], ofHead: 0.2, ofRest: 0.97 },
  pro: { limits: ['20/s', '600/min', '10000/h'], ofHead: 0.3, ofRest: 0.029 },
  enterprise: { limits: ['100/s', '3000/min', '100000/h'], ofHead: 0.5, ofRest: 0.001 },
}

/**
 * Failures, by the start of the run: `at` and `for` in ms. Kinds:
 *
 * - `redis`: every primary is away. `loses: 'all'`: it comes back empty.
 * - `primary`: one of them is away. `loses`: 'all', or the ms of writes that its replica did not have.
 * - `gateways`: `count` gateways cannot reach Redis, the others can.
 * - `killed`: `count` gateways are gone. The others take their requests.
 */
const FAILURES = [
  { kind: 'primary', at: 4 * HOUR, for: 3 * SECOND, primary: 0, loses: 1000 },
  { kind: 'redis', at: 9 * HOUR, for: 600 * SECOND, loses: 'nothing' },
  { kind: 'gateways', at: 13 * HOUR, for: 600 * SECOND, count: 20 },
  { kind: 'redis', at: 17 * HOUR, for: 5 * SECOND, loses: 'all' },
  { kind: 'killed', at: 20 * HOUR, for: 900 * SECOND, count: 30 },
]

/** Each row: name, value, unit, why. */
export const ASSUMPTIONS = [
  ['users', 100e6, '', 'the design'],
  ['requestsPerUser', 30, 'in the run', '35,000 a second in the mean of a day, as 4,000 for 10 million'],
  ['zipf', 0.8, 'exponent', 'the user of rank r asks r^-0.8 times as often as the first'],
  ['runMs', 24 * HOUR, 'ms', 'a day'],
  ['buckets', 144, 'of the run', 'figures over time are of ten minutes each'],
  ['hours', HOURS, 'of the mean', 'a night, and a peak in the evening; spread evenly over the run'],
  ['visit', 5, 'requests', 'a user asks in visits; users without pause ask at random moments'],
  ['spacingMs', 2000, 'ms, mean', 'between two requests of a visit'],
  ['tiers', TIERS, '', 'of one service; a second one doubles the keys'],
  ['headUsers', 1000, 'users', 'who asks most pays more often'],
  ['idLength', 11, 'characters', 'as in npm run bench:memory'],
  ['gateways', 100, 'processes', 'the design; each request goes to any of them'],
  ['primaries', 10, 'of a Cluster', '1: one Redis without a Cluster'],
  ['onFailure', 'local', 'open, local, closed', 'on_failure of the service'],
  ['failures', FAILURES, '', 'each kind once'],
  ['assignments', 10e6, 'records', 'tiers that operators have assigned'],
  ['wholeRecords', 500_000, 'a gateway', 'up to so many assignments a gateway holds them all'],
  ['heldRecords', 250_000, 'a gateway', 'users seen lately that it holds of more, with a tier or without'],
  ['changesPerHour', 3600, '', 'of tiers, keys, bans and boosts, all gateways together'],
  ['heartbeats', 1.29, 'a gateway and second', 'a script call every 0.7 to 0.85 s'],
  ['announcements', 0.25, 'a gateway and second', 'for questions between gateways'],
  [
    'usPerRequest',
    { idle: 129, busy: 31 },
    'µs of a gateway',
    'bench/README.md: 93 at 0.37 of a core, 31 at a whole',
  ],
  ['deniedCost', 0.57, 'of a request', 'bench/README.md: 18 of 31 µs'],
  [
    'usPerWrite',
    { idle: 41, busy: 4 },
    'µs of Redis',
    'a socket read, a write, a wake-up: docs/capacity.md, Redis: CPU',
  ],
  ['usPerCall', 3.3, 'µs of Redis', 'a script call: bench/README.md, one decision 6, in a full call 2.8'],
  ['usPerDecision', 2.8, 'µs of Redis', 'one limit; bench/README.md'],
  ['usPerLimit', 1.6, 'µs of Redis', 'each limit more; bench/README.md, three limits 6.1'],
  ['usPerMessage', 2, 'µs of Redis', 'a published message to one gateway'],
  [
    'localBytes',
    530,
    'bytes a user',
    'of a gateway in the mode local: three limits, and what is owed to Redis; one limit takes 430',
  ],
  ['busiest', 0.5, 'of a core', 'how full gateways and primaries may be at the peak'],
  ['maxmemory', 4, 'GiB a primary', 'what a primary may hold; it needs twice that while it writes its file'],
  ['gatewayPrice', 0.05, 'an hour', 'an example: a virtual core and 1 GiB, any currency'],
  ['redisCorePrice', 0.05, 'an hour', 'an example: a core of a primary, and one of its replica'],
  ['redisGibPrice', 0.01, 'a GiB and hour', 'an example; primaries and replicas, twice maxmemory each'],
].map(([name, value, unit, why]) => ({ name, value, unit, why }))

/**
 * Returns the values by name.
 *
 * @param changes values that replace those of the table
 * @throws Error that names every unknown one
 */
export function scenarioOf(changes = {}) {
  const scenario = Object.fromEntries(ASSUMPTIONS.map(({ name, value }) => [name, value]))
  const unknown = Object.keys(changes).filter((name) => !(name in scenario))
  if (unknown.length > 0) throw new Error(`no assumption is called ${unknown.join(', ')}`)
  return { ...scenario, ...changes }
}

/** Returns rows for a table: name, value in use, unit, why. A changed value says that it was changed. */
export function assumptionRows(scenario) {
  return ASSUMPTIONS.flatMap(({ name, value, unit, why }) => {
    const used = scenario[name]
    const reason = used === value ? why : 'changed for this run'
    if (name === 'tiers') return tierRows(used)
    if (name === 'failures')
      return used.map((failure, i) => [`failure ${i + 1}`, textOf(failure), '', reason])
    return [[name, textOf(used), unit, reason]]
  })
}

function tierRows(tiers) {
  return Object.entries(tiers).map(([tier, { limits, ofHead, ofRest }]) => [
    `tier ${tier}`,
    limits.join(', '),
    'for each user',
    `${100 * ofHead} % of those that ask most, ${+(100 * ofRest).toFixed(3)} % of the others`,
  ])
}

function textOf(value) {
  if (typeof value === 'number') return value.toLocaleString('en', { maximumFractionDigits: 3 })
  if (Array.isArray(value)) return value.join(' ')
  if (typeof value === 'object') {
    return Object.entries(value)
      .map(([name, one]) => `${name} ${name === 'at' || name === 'for' ? durationOf(one) : one}`)
      .join(', ')
  }
  return String(value)
}

function durationOf(ms) {
  if (ms % HOUR === 0) return `${ms / HOUR} h`
  return ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1000} s`
}
