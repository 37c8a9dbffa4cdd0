import { createThrottle, type Log } from '../../log-throttle.js'
import type { Names } from './dns.js'
import { couldNotReach, type Endpoint, type EndpointState, restate } from './endpoint.js'
import { eject, judge, mayEject } from './outliers.js'
import { describeEndpoint } from './state.js'

/**
 * Result of a request, as far as it concerns the upstream. unreachable: no connection could be made; unknown: it was
 * aborted for other reasons.
 */
export type AttemptOutcome = 'well' | 'failed' | 'unreachable' | 'unknown'

export type Transitions = ReturnType<typeof createTransitions>

/**
 * Creates what brings upstreams in and out of service by the results of their requests, and logs it.
 *
 * @param now returns ms that never go back
 * @param log for each state of an upstream at most once a second
 */
export function createTransitions(now: () => number, names: Pick<Names, 'state'>, log: Log | undefined) {
  /** Makes a change that may bring an upstream back or take it out, and logs the result. */
  function change(endpoint: Endpoint, step: () => void): void {
    const { state } = endpoint
    step()
    if (endpoint.state === state) return
    tell(endpoint)
    endpoint.group.queue.wake()
  }

  const throttles = new WeakMap<Endpoint, Map<EndpointState, () => number>>()
  function tell(endpoint: Endpoint): void {
    if (log === undefined) return
    // An upstream that flaps with every request must not fill the log.
    const ofStates = throttles.get(endpoint) ?? new Map<EndpointState, () => number>()
    const throttle = ofStates.get(endpoint.state) ?? createThrottle(1000, now)
    throttles.set(endpoint, ofStates.set(endpoint.state, throttle))
    if (throttle() < 0) return
    const { service, address, state, why } = describeEndpoint(endpoint, now(), names)
    const fields = { service, upstream: address, state, ...(why === null ? {} : { why }) }
    if (state === 'ejected' || state === 'unhealthy') log.warn(fields, 'an upstream gets no requests')
    else log.info(fields, state === 'drained' ? 'an upstream was drained' : 'an upstream gets requests')
  }

  /** Records the result of a request, and ejects an upstream that fails too often. */
  function assess(endpoint: Endpoint, failed: boolean, why: string): void {
    const { endpoints, service } = endpoint.group
    const { outliers } = service
    // The only upstream is never ejected, so nothing is counted.
    if (outliers === undefined || endpoint.ejectedUntil !== 0 || endpoints.length < 2) return
    const time = now()
    const reason = judge(endpoint.conduct, outliers, failed, time)
    if (reason === undefined) return
    let all = 0
    let out = 0
    for (const one of endpoints) {
      if (one.drained) continue
      all++
      if (one.failing || one.ejectedUntil > time) out++
    }
    if (!mayEject(outliers, all, out)) return
    endpoint.ejections++
    endpoint.trouble = why === '' ? reason : `${reason}, the last: ${why}`
    change(endpoint, () => {
      endpoint.ejectedUntil = eject(endpoint.conduct, outliers, time)
      endpoint.rampFrom = 0
      restate(endpoint, time)
    })
  }

  return {
    change,
    /** Takes the outcome of a request into account. */
    ended(endpoint: Endpoint, outcome: AttemptOutcome, why: string): void {
      if (outcome === 'unreachable') change(endpoint, () => couldNotReach(endpoint, why, now()))
      if (outcome !== 'unknown') assess(endpoint, outcome !== 'well', why)
    },
  }
}
