import type { UpstreamReading } from '../../upstream/pool/state.js'
import type { Families } from './metric-definitions.js'

/** Updates the metrics of upstreams. Removes an upstream that the configuration has dropped. */
export function showUpstreams(
  families: Families,
  upstreams: Iterable<UpstreamReading>,
  waiting: Iterable<readonly [service: string, count: number]>,
): void {
  const { upstreamHealthy, upstreamInFlight, upstreamWaiting, upstreamEjections, upstreamChecks } = families
  for (const family of [
    upstreamHealthy,
    upstreamInFlight,
    upstreamWaiting,
    upstreamEjections,
    upstreamChecks,
  ])
    family.clear()
  for (const one of upstreams) {
    const { service, upstream } = one
    upstreamHealthy.set(one.healthy ? 1 : 0, service, upstream)
    upstreamInFlight.set(one.inFlight, service, upstream)
    upstreamEjections.set(one.ejections, service, upstream)
    if (one.checksPassed + one.checksFailed === 0) continue
    upstreamChecks.set(one.checksPassed, service, upstream, 'passed')
    upstreamChecks.set(one.checksFailed, service, upstream, 'failed')
  }
  for (const [service, count] of waiting) upstreamWaiting.set(count, service)
}
