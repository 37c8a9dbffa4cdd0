import { createHash } from 'node:crypto'
import type { Route, Snapshot } from '../../config/snapshot/snapshot.js'

interface Example {
  readonly what: string
  readonly line: string
}

/** Returns three examples: what a backend gets, what an expensive request costs, and a spent quota. */
export function examplesFor(snapshot: Snapshot, address: string): Example[] {
  const { tiers, defaultTier } = snapshot
  // Routes that a request to the plain address reaches.
  const routes = snapshot.routes.filter(
    ({ hosts, shape }) => hosts.length === 0 && shape?.respond === undefined,
  )
  const second = tiers[defaultTier + 1]
  const better = keyOption(snapshot, second)
  const best = keyOption(snapshot, tiers.at(-1))
  const poor = keyOption(snapshot, tiers[defaultTier])
  const amountOf = (route: Route) =>
    route.quotaOf.policies[defaultTier]?.limits[0]?.amount ?? Number.POSITIVE_INFINITY
  const cheap = routes.filter(
    ({ methods, cost }) => cost === 1 && (methods.length === 0 || methods.includes('GET')),
  )
  const [scarce] = cheap.toSorted((a, b) => amountOf(a) - amountOf(b))
  const dear = routes.find(({ cost }) => cost > 1)
  const examples: Example[] = []
  const [first] = cheap
  if (first !== undefined) {
    const what = `shows what the ${first.service.name} backend receives${better === '' ? '' : ` for a ${second} consumer`}`
    examples.push({ what, line: `curl -i ${better}${address}${concrete(first)}` })
  }
  if (dear !== undefined) {
    const method = dear.methods[0] ?? 'POST'
    const body = method === 'GET' ? '' : `-X ${method} -d 'amount=20' `
    const what = `costs ${dear.cost} at once: see the RateLimit headers`
    examples.push({ what, line: `curl -i ${body}${best}${address}${concrete(dear)}` })
  }
  if (scarce !== undefined && amountOf(scarce) <= 100) {
    const amount = amountOf(scarce)
    const what = `prints 200 ${amount} times, then 429: the quota of the ${tiers[defaultTier]} tier is used up`
    const curl = `curl -s -o /dev/null -w '%{http_code} ' ${poor}${address}${concrete(scarce)}`
    examples.push({ what, line: `for i in $(seq ${amount + 2}); do ${curl}; done; echo` })
  }
  return examples
}

/**
 * Returns the option with the key of a tier. The example's keys are named after their tier; another configuration may
 * have none.
 */
function keyOption({ consumers }: Snapshot, tier: string | undefined): string {
  const key = `demo-${tier}-key`
  const hash = createHash('sha256').update(key).digest('hex')
  for (const source of consumers) {
    if (source.kind === 'api_key' && source.keys.has(hash)) return `-H '${source.header}: ${key}' `
  }
  return ''
}

/** Returns a path that the route matches. */
function concrete({ path }: Route): string {
  return path
    .split('/')
    .map((segment) => (segment === '*' ? 'hello' : segment.startsWith(':') ? '1' : segment))
    .join('/')
}
