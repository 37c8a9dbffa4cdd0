import type { RouteCost } from '../../config/snapshot/costs.js'
import type { Exchange } from '../exchange/exchange.js'
import { onlyField } from '../exchange/header-list.js'

/** The most that a limit can hold (25 bits, as its amount). */
const MAX_COST = 2 ** 25 - 1
const WHOLE = /^[0-9]+$/

/**
 * What a request costs by its own account, 1 to the route's max. A number above that counts as the max; anything else, what
 * a consumer says that is not trusted, and a header that is there twice, as the route's default.
 */
export function askedCost(x: Exchange, { cost, costFrom }: RouteCost): number {
  if (costFrom === undefined || !costFrom.consumers.has(x.consumer!)) return cost
  const said = onlyField(x.headers.forward, costFrom.header)
  if (said === undefined || !WHOLE.test(said)) return cost
  const asked = Number(said)
  return asked === 0 ? cost : Math.min(asked, costFrom.max)
}

/** What a request takes from each limit of its route: as much as the dearest of those that its path could be read as. */
export function costOf(x: Exchange, route: RouteCost): number {
  let cost = askedCost(x, route)
  for (const other of x.alsoRead ?? NONE) cost = Math.max(cost, askedCost(x, other))
  return cost
}

const NONE: readonly RouteCost[] = []

/**
 * What the upstream says that a request has cost in all, 0 to 2^25 - 1 (more counts as that); undefined when it does not
 * say, or twice, or no whole number.
 *
 * @param raw name, value, … of the response, as they came
 * @param header in lower case
 */
export function toldCost(raw: readonly string[], header: string): number | undefined {
  const said = onlyField(raw, header)
  return said !== undefined && WHOLE.test(said) ? Math.min(Number(said), MAX_COST) : undefined
}
