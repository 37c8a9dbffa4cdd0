import { counter, from, gauge, SERVICE, setAll } from './define-metric.js'

/** Metrics of upstreams and of the guards in front of them. */
export const UPSTREAM_METRICS = {
  circuitState: gauge('tidegate.circuit.state', 'tidegate_circuit_state', {
    help: '1 for the present state of the circuit breaker of a service: closed, open or half_open.',
    labels: [SERVICE, 'state'],
    across: 'max',
    read: from('guards', (guards, set) => {
      for (const { service, circuit } of guards) {
        if (circuit === undefined) continue
        for (const state of ['closed', 'open', 'half_open']) set(Number(state === circuit), service, state)
      }
    }),
  }),
  concurrencyLimit: gauge('tidegate.concurrency.limit', 'tidegate_concurrency_limit', {
    unit: '{request}',
    help: 'Present limit of concurrent requests to a service.',
    labels: [SERVICE],
    read: from('guards', (guards, set) => {
      for (const { service, concurrency } of guards) if (concurrency) set(concurrency.limit, service)
    }),
  }),
  concurrencyInFlight: gauge('tidegate.concurrency.in_flight', 'tidegate_concurrency_in_flight', {
    unit: '{request}',
    help: 'Concurrent requests to a service.',
    labels: [SERVICE],
    read: from('guards', (guards, set) => {
      for (const { service, concurrency } of guards) if (concurrency) set(concurrency.in_flight, service)
    }),
  }),
  upstreamRetries: counter('tidegate.upstream.retries', 'tidegate_upstream_retries_total', {
    unit: '{request}',
    help: 'Retried requests, by result. no_budget: the retry budget denied the retry.',
    labels: [SERVICE, 'result'],
    read: from('guards', (guards, set) => {
      for (const { service, retries } of guards) setAll(set, retries, service)
    }),
  }),
  upstreamHealthy: gauge('tidegate.upstream.healthy', 'tidegate_upstream_healthy', {
    help: '1 while an upstream gets requests, 0 while it is left out.',
    labels: [SERVICE, 'upstream'],
    across: 'min',
    read: from('upstreams', (upstreams, set) => {
      for (const { service, upstream, healthy } of upstreams) set(Number(healthy), service, upstream)
    }),
  }),
  upstreamInFlight: gauge('tidegate.upstream.requests_in_flight', 'tidegate_upstream_requests_in_flight', {
    unit: '{request}',
    help: 'Requests and tunnels in flight at an upstream.',
    labels: [SERVICE, 'upstream'],
    read: from('upstreams', (upstreams, set) => {
      for (const { service, upstream, inFlight } of upstreams) set(inFlight, service, upstream)
    }),
  }),
  upstreamWaiting: gauge('tidegate.upstream.requests_waiting', 'tidegate_upstream_requests_waiting', {
    unit: '{request}',
    help: 'Requests that wait for a connection to an upstream of the service.',
    labels: [SERVICE],
    read: from('waiting', (waiting, set) => {
      for (const [service, count] of waiting) set(count, service)
    }),
  }),
  upstreamEjections: counter('tidegate.upstream.ejections', 'tidegate_upstream_ejections_total', {
    unit: '{ejection}',
    help: 'Ejections of an upstream because its requests failed.',
    labels: [SERVICE, 'upstream'],
    anew: true,
    read: from('upstreams', (upstreams, set) => {
      for (const { service, upstream, ejections } of upstreams) set(ejections, service, upstream)
    }),
  }),
  upstreamChecks: counter('tidegate.upstream.health_checks', 'tidegate_upstream_health_checks_total', {
    unit: '{check}',
    help: 'Health checks of an upstream, by result.',
    labels: [SERVICE, 'upstream', 'result'],
    anew: true,
    read: from('upstreams', (upstreams, set) => {
      for (const { service, upstream, checksPassed, checksFailed } of upstreams) {
        if (checksPassed + checksFailed > 0)
          setAll(set, { passed: checksPassed, failed: checksFailed }, service, upstream)
      }
    }),
  }),
}
