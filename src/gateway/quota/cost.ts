import type { RouteCost } from '../../config/snapshot/costs.js'
import type { Exchange } from '../exchange/exchange.js'
import { onlyField } from '../exchange/header-list.js'

/** Largest amount that a limit can hold (25 bits). */
const MAX_COST = 2 ** 25 - 1
const WHOLE = /^[0-9]+$/

/**
 * Returns the cost that a request declares, from 1 to the route's max. A number above that counts as the max. Anything
 * else counts as the route's default, and so do untrusted consumers and repeated headers.
 */
export function requestCost(x: Exchange, { cost, costFrom }: RouteCost): number {
  if (costFrom === undefined || !costFrom.consumers.has(x.consumer!)) return cost
  const said = onlyField(x.headers.forward, costFrom.header)
  if (said === undefined || !WHOLE.test(said)) return cost
  const asked = Number(said)
  return asked === 0 ? cost : Math.min(asked, costFrom.max)
}

/**
 * Returns what a request takes from each limit of its route: the cost of the most expensive route that its path could
 * be read as, or the highest that a hook has returned.
 */
export function costOf(x: Exchange, route: RouteCost): number {
  let cost = Math.max(requestCost(x, route), x.hooks?.cost ?? 0)
  for (const other of x.alsoRead ?? NONE) cost = Math.max(cost, requestCost(x, other))
  return cost
}

const NONE: readonly RouteCost[] = []

/**
 * Returns the total cost that the upstream reports, from 0 to 2^25 - 1 (more counts as that). Undefined if it reports
 * none, two, or not a whole number.
 *
 * @param raw name, value, … of the response, as received
 * @param header in lower case
 */
export function reportedCost(raw: readonly string[], header: string): number | undefined {
  const said = onlyField(raw, header)
  return said !== undefined && WHOLE.test(said) ? Math.min(Number(said), MAX_COST) : undefined
}
