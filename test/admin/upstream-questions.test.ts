import t from 'tap'
import { upstreamsOfAll } from '../../src/admin/upstream-questions.js'
import type { UpstreamState } from '../../src/upstream/pool/state.js'

function stateOf(changes: Partial<UpstreamState>): UpstreamState {
  return {
    service: 'api',
    address: 'http://a',
    state: 'serving',
    why: null,
    since: '2026-11-24T22:00:00.000Z',
    weight: 2,
    in_flight: 1,
    tunnels: 0,
    max_connections: 128,
    waiting: 0,
    ejections: 0,
    last_check: null,
    resolved: null,
    dns_error: null,
    ...changes,
  }
}

t.test('a state that all workers agree on is shown once, with the sums of their load', async (t) => {
  const told = [
    [stateOf({ waiting: 2 }), stateOf({ address: 'http://b' })],
    [stateOf({ in_flight: 4, waiting: 1, ejections: 3 }), stateOf({ address: 'http://b' })],
  ]
  t.match(upstreamsOfAll(told), [
    {
      address: 'http://a',
      state: 'serving',
      why: null,
      in_flight: 5,
      max_connections: 256,
      waiting: 3,
      ejections: 3,
    },
    { address: 'http://b', state: 'serving', in_flight: 2 },
  ])
  t.strictSame(upstreamsOfAll([]), [])
})

t.test('if workers disagree, the worst state is shown, with how many see it', async (t) => {
  const told = [
    [stateOf({})],
    [stateOf({ state: 'ejected', why: '5 failures in a row; back in 3 s' })],
    [stateOf({ state: 'slow_start', why: '10 % of its weight' })],
  ]
  t.match(upstreamsOfAll(told), [
    { state: 'ejected', why: '5 failures in a row; back in 3 s (in 1 of 3 workers)', weight: 2 },
  ])
})
