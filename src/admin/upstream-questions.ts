import type { Question } from '../fleet/question.js'
import type { EndpointState } from '../upstream/pool/endpoint.js'
import type { Upstreams } from '../upstream/pool/pool.js'
import type { UpstreamState } from '../upstream/pool/state.js'

/** Endpoint states, the worst first. */
const STATES: readonly EndpointState[] = ['drained', 'ejected', 'unhealthy', 'slow_start', 'serving']

/** Asks for the state of every upstream. */
export const UPSTREAMS: Question<
  { readonly upstreams: Pick<Upstreams, 'describe'> },
  null,
  readonly UpstreamState[]
> = {
  name: 'upstreams',
  answer: ({ upstreams }) => upstreams.describe(),
  merge: upstreamsOfAll,
}

/** State that an operator gives to an upstream. */
export interface UpstreamChange {
  readonly service: string
  readonly address: string
  readonly state: 'drained' | 'serving'
}

/** Drains an upstream or restores it. Null: no upstream has that address. */
export const SET_UPSTREAM: Question<
  { readonly upstreams: Pick<Upstreams, 'setState'> },
  UpstreamChange,
  UpstreamState | null
> = {
  name: 'upstream',
  answer: ({ upstreams }, { service, address, state }) => upstreams.setState(service, address, state) ?? null,
  merge: (answers) => upstreamsOfAll([answers.flatMap((one) => one ?? [])])[0] ?? null,
}

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
