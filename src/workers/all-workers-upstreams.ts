import type { EndpointState } from '../upstream/pool/endpoint.js'
import type { UpstreamState } from '../upstream/pool/state.js'

/** Endpoint states, the worst first. */
const STATES: readonly EndpointState[] = ['drained', 'ejected', 'unhealthy', 'slow_start', 'serving']

/**
 * Merges the upstreams of all workers: each worker balances and ejects for itself, so their states may differ. Shows
 * the worst state, and how many workers share it.
 */
export function upstreamsOfAll(told: readonly (readonly UpstreamState[])[]): UpstreamState[] {
  const each = new Map<string, UpstreamState[]>()
  for (const one of told.flat()) {
    const key = JSON.stringify([one.service, one.address])
    const known = each.get(key)
    if (known === undefined) each.set(key, [one])
    else known.push(one)
  }
  return [...each.values()].map(joined)
}

function joined(states: readonly UpstreamState[]): UpstreamState {
  const [worst] = [...states].sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state))
  const alike = states.filter(({ state }) => state === worst!.state).length
  const sum = (of: (one: UpstreamState) => number) => states.reduce((total, one) => total + of(one), 0)
  const why =
    alike === states.length
      ? worst!.why
      : `${worst!.why ?? worst!.state} (in ${alike} of ${states.length} workers)`
  return {
    ...worst!,
    why,
    in_flight: sum((one) => one.in_flight),
    tunnels: sum((one) => one.tunnels),
    max_connections: sum((one) => one.max_connections),
    waiting: sum((one) => one.waiting),
    ejections: sum((one) => one.ejections),
  }
}

/** Upstreams that operators have drained: a worker that starts later gets this list. */
export interface Drained {
  set(service: string, address: string, state: 'drained' | 'serving'): void
  all(): (readonly [service: string, address: string])[]
}

export function createDrained(): Drained {
  const drained = new Map<string, readonly [service: string, address: string]>()
  return {
    set(service, address, state) {
      const key = JSON.stringify([service, address])
      if (state === 'drained') drained.set(key, [service, address])
      else drained.delete(key)
    },
    all: () => [...drained.values()],
  }
}
