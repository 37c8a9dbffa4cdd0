import type { Maintenance } from '../../config/snapshot/snapshot.js'
import { memberAt, memberOf } from '../../config/snapshot/split.js'
import type { Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'

/**
 * Creates the stage that chooses the service: for a split by weight, with `sticky` by consumer. The choice does not affect
 * whose limits count. A service in maintenance refuses here, before anything is taken.
 */
export function chooseService(random: () => number = Math.random) {
  return function chooseService(x: Exchange): Refusal | undefined {
    const { split } = x.route!
    if (split !== undefined) {
      const member = split.sticky ? memberOf(split, x.consumer!) : memberAt(split, random())
      x.route = member.route
    }
    const { maintenance } = x.route!.service
    return maintenance === undefined ? undefined : inMaintenance(maintenance)
  }
}

function inMaintenance({ retryAfter, detail }: Maintenance): Refusal {
  const headers = ['Retry-After', retryAfter]
  return detail === undefined ? { code: 'maintenance', headers } : { code: 'maintenance', detail, headers }
}
