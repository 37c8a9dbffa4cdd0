import { bestFor, hashText } from '../../common/rendezvous.js'

/** Chooses the upstream of a service for each request. */
export interface Balancer {
  /**
   * Chooses an upstream.
   *
   * @param weights by upstream, 0 for those that are passed over; at least one is not 0
   * @param key requests with the same key get the same upstream, if the balancer uses it
   */
  choose(weights: Float64Array, key: string | undefined): number
}

/**
 * Balances by smooth weighted round robin, as in nginx: with 5, 1, 1 the order is a a b a c a a, and not five times a
 * in a row.
 *
 * @param count number of upstreams
 */
export function roundRobin(count: number): Balancer {
  const credit = new Float64Array(count)
  return {
    choose(weights) {
      let best = -1
      let total = 0
      for (let i = 0; i < count; i++) {
        const weight = weights[i]!
        if (weight === 0) continue
        total += weight
        credit[i]! += weight
        if (best < 0 || credit[i]! > credit[best]!) best = i
      }
      credit[best]! -= total
      return best
    },
  }
}

/**
 * Balances by the power of two choices: draws two upstreams by weight and takes the one with fewer requests in flight
 * for its weight. That spreads load nearly as well as choosing the least loaded of all, without all gateways choosing
 * the same one.
 *
 * @param load returns the requests in flight at an upstream
 * @param random returns a number from 0 to below 1
 */
export function leastRequests(load: (index: number) => number, random: () => number): Balancer {
  function draw(weights: Float64Array, without: number): number {
    let total = 0
    for (let i = 0; i < weights.length; i++) if (i !== without) total += weights[i]!
    let left = random() * total
    let last = -1
    for (let i = 0; i < weights.length; i++) {
      if (i === without || weights[i] === 0) continue
      last = i
      left -= weights[i]!
      if (left < 0) break
    }
    return last
  }
  return {
    choose(weights) {
      const first = draw(weights, -1)
      const second = draw(weights, first)
      if (second < 0) return first
      return load(second) / weights[second]! < load(first) / weights[first]! ? second : first
    },
  }
}

/** Balances by hash: the same key gets the same upstream. Requests without a key take turns. */
export function hashing(addresses: readonly string[]): Balancer {
  const seeds = Uint32Array.from(addresses, hashText)
  const keyless = roundRobin(addresses.length)
  return {
    choose: (weights, key) =>
      key === undefined ? keyless.choose(weights, key) : bestFor(hashText(key), seeds, weights),
  }
}
