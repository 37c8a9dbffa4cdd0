/** What failures mean for the users of one primary, as phases of the run one after the other. */

/**
 * Returns the phases of a primary. Of each: its time in ms; whether the primary is `away`; how many gateways are `alive`, and how many
 * of them are `cut` off from Redis; and `enter`, what happens to the counts when it begins:
 *
 * - `keep`: what is counted from now on will be lost with the primary
 * - `restore`: it is lost
 * - `drop`: all counts are lost
 *
 * @param from ms at which the run's warm-up begins
 */
export function phasesOf({ failures, gateways, runMs }, primary, from) {
  const own = failures.filter((failure) => failure.kind !== 'primary' || failure.primary === primary)
  const takesPrimary = ({ kind }) => kind === 'redis' || kind === 'primary'
  const enters = new Map()
  const edges = new Set([from, runMs])
  for (const failure of own) {
    const end = failure.at + failure.for
    edges.add(failure.at).add(end)
    if (!takesPrimary(failure)) continue
    if (failure.loses === 'all') enters.set(end, 'drop')
    if (typeof failure.loses === 'number') {
      edges.add(failure.at - failure.loses)
      enters.set(failure.at - failure.loses, 'keep')
      enters.set(end, 'restore')
    }
  }
  const times = [...edges].filter((ms) => ms >= from && ms <= runMs).sort((a, b) => a - b)
  return times.slice(1).map((to, i) => {
    const begin = times[i]
    const now = own.filter(({ at, for: ms }) => at <= begin && begin < at + ms)
    const counted = (kind) => now.reduce((sum, one) => sum + (one.kind === kind ? one.count : 0), 0)
    const alive = Math.max(1, gateways - counted('killed'))
    return {
      from: begin,
      to,
      away: now.some(takesPrimary),
      alive,
      cut: Math.min(alive, counted('gateways')),
      failure: failures.indexOf(now[0]),
      enter: enters.get(begin),
    }
  })
}
