import { bestFor, hashText } from './rendezvous.js'

/** Which of the upstreams of a service a request goes to. */
export interface Balancer {
  /**
   * @param weights by upstream, 0 for those that are passed over; at least one is not
   * @param key what the same upstream is wanted for, if there is something
   */
  choose(weights: Float64Array, key: string | undefined): number
}

/**
 * Smooth weighted round robin, as nginx has it: with 5, 1, 1 the order is a a b a c a a, and not five times a in a row.
 *
 * @param count of upstreams
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
 * Power of two choices: of two that are drawn by weight, the one with fewer requests under way for its weight. That spreads
 * load nearly as well as the least of all would, without all gateways running for the same one.
 *
 * @param load requests under way at an upstream
 * @param random from 0 to below 1
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

/** The same upstream for the same key. Requests without a key take turns. */
export function hashing(addresses: readonly string[]): Balancer {
  const seeds = Uint32Array.from(addresses, hashText)
  const keyless = roundRobin(addresses.length)
  return {
    choose: (weights, key) =>
      key === undefined ? keyless.choose(weights, key) : bestFor(hashText(key), seeds, weights),
  }
}
