import { counter, fromEach, gauge, SERVICE, setAll } from './define-metric.js'

/** Metrics of upstreams and of the guards in front of them. */
export const UPSTREAM_METRICS = {
  circuitState: gauge('tidegate.circuit.state', 'tidegate_circuit_state', {
    help: '1 for the present state of the circuit breaker of a service: closed, open or half_open.',
    labels: [SERVICE, 'state'],
    across: 'max',
    read: fromEach('guards', ({ service, circuit }, set) => {
      if (circuit === undefined) return
      for (const state of ['closed', 'open', 'half_open']) set(Number(state === circuit), service, state)
    }),
  }),
  concurrencyLimit: gauge('tidegate.concurrency.limit', 'tidegate_concurrency_limit', {
    unit: '{request}',
    help: 'Present limit of concurrent requests to a service.',
    labels: [SERVICE],
    read: fromEach('guards', ({ service, concurrency }, set) => {
      if (concurrency) set(concurrency.limit, service)
    }),
  }),
  concurrencyInFlight: gauge('tidegate.concurrency.in_flight', 'tidegate_concurrency_in_flight', {
    unit: '{request}',
    help: 'Concurrent requests to a service.',
    labels: [SERVICE],
    read: fromEach('guards', ({ service, concurrency }, set) => {
      if (concurrency) set(concurrency.in_flight, service)
    }),
  }),
  upstreamRetries: counter('tidegate.upstream.retries', 'tidegate_upstream_retries_total', {
    unit: '{request}',
    help: 'Retried requests, by result. no_budget: the retry budget denied the retry.',
    labels: [SERVICE, 'result'],
    read: fromEach('guards', ({ service, retries }, set) => setAll(set, retries, service)),
  }),
  upstreamHealthy: gauge('tidegate.upstream.healthy', 'tidegate_upstream_healthy', {
    help: '1 while an upstream gets requests, 0 while it is left out.',
    labels: [SERVICE, 'upstream'],
    across: 'min',
    read: fromEach('upstreams', ({ service, upstream, healthy }, set) =>
      set(Number(healthy), service, upstream),
    ),
  }),
  upstreamInFlight: gauge('tidegate.upstream.requests_in_flight', 'tidegate_upstream_requests_in_flight', {
    unit: '{request}',
    help: 'Requests and tunnels in flight at an upstream.',
    labels: [SERVICE, 'upstream'],
    read: fromEach('upstreams', ({ service, upstream, inFlight }, set) => set(inFlight, service, upstream)),
  }),
  upstreamWaiting: gauge('tidegate.upstream.requests_waiting', 'tidegate_upstream_requests_waiting', {
    unit: '{request}',
    help: 'Requests that wait for a connection to an upstream of the service.',
    labels: [SERVICE],
    read: fromEach('waiting', ([service, count], set) => set(count, service)),
  }),
  upstreamEjections: counter('tidegate.upstream.ejections', 'tidegate_upstream_ejections_total', {
    unit: '{ejection}',
    help: 'Ejections of an upstream because its requests failed.',
    labels: [SERVICE, 'upstream'],
    anew: true,
    read: fromEach('upstreams', ({ service, upstream, ejections }, set) => set(ejections, service, upstream)),
  }),
  upstreamChecks: counter('tidegate.upstream.health_checks', 'tidegate_upstream_health_checks_total', {
    unit: '{check}',
    help: 'Health checks of an upstream, by result.',
    labels: [SERVICE, 'upstream', 'result'],
    anew: true,
    read: fromEach('upstreams', ({ service, upstream, checksPassed, checksFailed }, set) => {
      if (checksPassed + checksFailed > 0)
        setAll(set, { passed: checksPassed, failed: checksFailed }, service, upstream)
    }),
  }),
}
