/**
 * Parts of the panels' queries. `$job`, `$instance`, `$service` and `$tier` are the variables at the top of a dashboard; Grafana
 * replaces each with a regular expression, `.*` for all.
 */

/** Selects the series of a query; `more` are further matchers. */
const matching = (metric: string, matchers: readonly string[]) => `${metric}{${matchers.join(', ')}}`
const NODE = ['job=~"$job"', 'instance=~"$instance"']
const SERVICE = [...NODE, 'tidegate_service=~"$service"']

/** Selects series of the chosen gateways. */
export const ofNode = (metric: string, ...more: string[]) => matching(metric, [...NODE, ...more])
/** Selects series of the chosen gateways and services. */
export const ofService = (metric: string, ...more: string[]) => matching(metric, [...SERVICE, ...more])
/** Selects series of the chosen gateways, services and tiers. */
export const ofTier = (metric: string, ...more: string[]) =>
  matching(metric, [...SERVICE, 'tidegate_tier=~"$tier"', ...more])

/** Rate per second, over the shortest time that gives one: it follows the scrape interval and the zoom. */
export const rate = (selector: string) => `rate(${selector}[$__rate_interval])`
/** Increase over the time that the dashboard shows. */
export const increase = (selector: string) => `increase(${selector}[$__range])`

/**
 * Denials of a limit, for which clients get 429. While the store is away, a service with on_failure: closed denies everything
 * with 503: that is an outage, not a limit.
 */
export const DENIED = 'decision="denied", decided_by!="closed"'

const by = (labels: string) => (labels === '' ? '' : ` by (${labels})`)
export const sum = (expression: string, labels = '') => `sum${by(labels)} (${expression})`
export const min = (expression: string, labels = '') => `min${by(labels)} (${expression})`
export const max = (expression: string, labels = '') => `max${by(labels)} (${expression})`

/**
 * A part as a share of the whole. No value if there is no whole, as 0 / 0 means nothing. 0 if there is a whole and the part has
 * no series yet: series begin with their first event.
 */
export function share(part: string, whole: string, labels = ''): string {
  const all = sum(whole, labels)
  return `(${sum(part, labels)} or 0 * ${all}) / (${all} > 0)`
}

/** @param q 0 to 1 @param selector of the histogram's buckets */
export const quantile = (q: number, selector: string, labels = '') =>
  `histogram_quantile(${q}, ${sum(rate(selector), labels === '' ? 'le' : `${labels}, le`)})`

/** The p50 and p99 of a histogram, by the name of their series. */
export const halfAnd99 = (name: string, selector: string, labels: string) => ({
  [`${name} p50`]: quantile(0.5, selector, labels),
  [`${name} p99`]: quantile(0.99, selector, labels),
})
