import t from 'tap'
import { guardsOfAll } from '../../src/admin/guard-question.js'
import type { GuardState } from '../../src/upstream/guard/guard.js'

function stateOf(changes: Partial<GuardState>): GuardState {
  return {
    service: 'api',
    circuit: 'closed',
    concurrency: { limit: 100, in_flight: 2 },
    retries: { succeeded: 1, failed: 0, no_budget: 3 },
    ...changes,
  }
}

t.test('of all workers the worst circuit state is shown, and the sums of the rest', async (t) => {
  const plain = { service: 'plain', circuit: undefined, concurrency: undefined }
  const told = [
    [stateOf({}), stateOf(plain)],
    [stateOf({ circuit: 'half_open' }), stateOf(plain)],
    [stateOf({ circuit: 'open', concurrency: { limit: 20, in_flight: 20 } }), stateOf(plain)],
  ]
  const retries = { succeeded: 3, failed: 0, no_budget: 9 }
  t.strictSame(guardsOfAll(told), [
    { service: 'api', circuit: 'open', concurrency: { limit: 220, in_flight: 24 }, retries },
    { ...plain, retries },
  ])
  t.strictSame(guardsOfAll([told[0]!, told[1]!])[0]!.circuit, 'half_open')
  t.strictSame(guardsOfAll([]), [])
})
