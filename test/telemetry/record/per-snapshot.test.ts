import t from 'tap'
import type { Snapshot } from '../../../src/config/snapshot/snapshot.js'
import { perSnapshot } from '../../../src/telemetry/record/per-snapshot.js'

t.test('a value is made once for each snapshot, also when two alternate around a reload', async (t) => {
  const [before, after] = [{}, {}] as Snapshot[]
  const made: Snapshot[] = []
  const numberFor = perSnapshot((snapshot) => made.push(snapshot))
  t.strictSame(
    [before, before, after, before, after, after].map((snapshot) => numberFor(snapshot!)),
    [1, 1, 2, 1, 2, 2],
  )
  t.strictSame(made, [before, after])
})
