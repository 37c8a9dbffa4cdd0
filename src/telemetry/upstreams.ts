import type { UpstreamReading } from '../upstream/state.js'
import type { Families } from './families.js'

/** Brings the figures of upstreams up to date. One that the configuration has dropped is shown no more. */
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
    upstreamHealthy.cell(service, upstream)[0] = one.healthy ? 1 : 0
    upstreamInFlight.cell(service, upstream)[0] = one.inFlight
    upstreamEjections.cell(service, upstream)[0] = one.ejections
    if (one.checksPassed + one.checksFailed === 0) continue
    upstreamChecks.cell(service, upstream, 'passed')[0] = one.checksPassed
    upstreamChecks.cell(service, upstream, 'failed')[0] = one.checksFailed
  }
  for (const [service, count] of waiting) upstreamWaiting.cell(service)[0] = count
}
