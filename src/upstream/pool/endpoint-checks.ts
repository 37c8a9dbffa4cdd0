import type { LookupFunction } from 'node:net'
import { openSender } from './connections.js'
import { cameBack, type Endpoint, restate } from './endpoint.js'
import type { HealthChecks } from './health-check.js'
import type { Transitions } from './transitions.js'

/**
 * Starts the health checks of an upstream as its service configures them now, and stops those that it had. The same checks
 * go on.
 *
 * @param now returns ms that never go back
 */
export function checkHealth(
  endpoint: Endpoint,
  checks: HealthChecks,
  { change }: Transitions,
  lookup: LookupFunction,
  now: () => number,
): void {
  const { upstream, group } = endpoint
  const { health } = group.service
  const key =
    health === undefined ? '' : JSON.stringify([upstream.key, { ...health, statuses: [...health.statuses] }])
  if (key === endpoint.checkKey) return
  endpoint.stopChecks()
  endpoint.checkKey = key
  if (health === undefined) {
    endpoint.stopChecks = () => {}
    endpoint.lastCheck = undefined
    endpoint.failing = false
    restate(endpoint, now())
    return
  }
  const subject = { settings: health, host: upstream.host, open: () => openSender(upstream, 1, lookup) }
  endpoint.stopChecks = checks.watch(key, subject, (result, up) => {
    endpoint.lastCheck = result
    if (result.passed) endpoint.checksPassed++
    else endpoint.checksFailed++
    // An upstream that was unreachable, and was ejected for it, is reachable again.
    if (up === true && endpoint.unreachableUntil !== 0) {
      endpoint.unreachableUntil = 0
      endpoint.ejectedUntil = 0
    } else if (up === undefined || up !== endpoint.failing) return
    endpoint.failing = !up
    change(endpoint, () => {
      if (up) cameBack(endpoint, now())
      else restate(endpoint, now())
    })
  })
}
