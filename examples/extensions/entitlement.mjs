import { defineExtension, respond } from 'tidegate/extension'

/** Asks an entitlement service whether a consumer may use the service of a request. Answers are cached. */
export default defineExtension({
  options: {
    type: 'object',
    properties: {
      url: {
        type: 'string',
        format: 'url',
        description: 'Answers GET <url>/<consumer>/<route> with { "allowed": true }',
      },
      keep: { type: 'string', format: 'duration', default: '1m' },
      entries: { type: 'integer', minimum: 1, default: 10_000 },
    },
    required: ['url'],
  },
  create({ options: { url, keep, entries }, meter, signal }) {
    const lookUps = meter.createCounter('entitlement_lookups')
    const cache = new Map()

    /** Asks the service. Not with the signal of a request: others wait for the same answer. */
    async function ask(consumer, route) {
      lookUps.add(1)
      const target = `${url}/${encodeURIComponent(consumer)}/${encodeURIComponent(route)}`
      const limits = AbortSignal.any([signal, AbortSignal.timeout(1000)])
      const response = await fetch(target, { signal: limits })
      if (!response.ok) throw new Error(`the entitlement service answered ${response.status}`)
      return (await response.json()).allowed === true
    }

    /** Returns what is known, at once; otherwise a promise that all who ask meanwhile share. */
    function isAllowed(consumer, route) {
      const key = `${consumer}\n${route}`
      const known = cache.get(key)
      if (known !== undefined && known.until > Date.now()) return known.allowed
      const allowed = ask(consumer, route).then(
        (answer) => {
          cache.set(key, { until: Date.now() + keep, allowed: answer })
          return answer
        },
        (error) => {
          cache.delete(key) // a failure is no answer: the next request asks again
          throw error
        },
      )
      if (cache.size >= entries) cache.delete(cache.keys().next().value)
      cache.set(key, { until: Number.POSITIVE_INFINITY, allowed })
      return allowed
    }

    const decide = (allowed) =>
      allowed ? undefined : respond(403, { detail: 'Your plan does not include this API.' })

    return {
      onRequest({ consumer, route }) {
        const allowed = isAllowed(consumer, route)
        // Without a wait, the hook stays synchronous.
        return typeof allowed === 'boolean' ? decide(allowed) : allowed.then(decide)
      },
    }
  },
})
