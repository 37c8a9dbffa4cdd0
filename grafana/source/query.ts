/**
 * The pieces that the queries of the panels are put together from. `$job`, `$instance`, `$service` and `$tier` are the
 * variables at the top of a dashboard; Grafana puts in a regular expression, `.*` for all.
 */

/** Which series a query is about; `more` are further matchers. */
const matching = (metric: string, matchers: readonly string[]) => `${metric}{${matchers.join(', ')}}`
const NODE = ['job=~"$job"', 'instance=~"$instance"']
const SERVICE = [...NODE, 'tidegate_service=~"$service"']

/** Of the gateways that were chosen. */
export const ofNode = (metric: string, ...more: string[]) => matching(metric, [...NODE, ...more])
/** And of the services that were. */
export const ofService = (metric: string, ...more: string[]) => matching(metric, [...SERVICE, ...more])
/** And of the tiers. */
export const ofTier = (metric: string, ...more: string[]) =>
  matching(metric, [...SERVICE, 'tidegate_tier=~"$tier"', ...more])

/** Per second, over the shortest time that a rate can be told for: it follows the scrape interval and the zoom. */
export const rate = (selector: string) => `rate(${selector}[$__rate_interval])`
/** How much more it became over what the dashboard shows. */
export const increase = (selector: string) => `increase(${selector}[$__range])`

/**
 * Denials of a limit: what callers get 429 for. Where the store is away and the service says on_failure: closed, all are denied as
 * well, with 503: that is an outage, and no limit.
 */
export const DENIED = 'decision="denied", decided_by!="closed"'

const by = (labels: string) => (labels === '' ? '' : ` by (${labels})`)
export const sum = (expression: string, labels = '') => `sum${by(labels)} (${expression})`
export const min = (expression: string, labels = '') => `min${by(labels)} (${expression})`
export const max = (expression: string, labels = '') => `max${by(labels)} (${expression})`

/**
 * A part as a share of the whole. Nothing where there is no whole: 0 / 0 says nothing. 0 where there is a whole and the part
 * has no series yet, which begin with the first event of their kind.
 */
export function share(part: string, whole: string, labels = ''): string {
  const all = sum(whole, labels)
  return `(${sum(part, labels)} or 0 * ${all}) / (${all} > 0)`
}

/** @param q 0 to 1 @param selector of the histogram's buckets */
export const quantile = (q: number, selector: string, labels = '') =>
  `histogram_quantile(${q}, ${sum(rate(selector), labels === '' ? 'le' : `${labels}, le`)})`

/** The half and the 99 % of a histogram, by the name of their series. */
export const halfAnd99 = (name: string, selector: string, labels: string) => ({
  [`${name} p50`]: quantile(0.5, selector, labels),
  [`${name} p99`]: quantile(0.99, selector, labels),
})
