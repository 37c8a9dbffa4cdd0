import t from 'tap'
import { TRAFFIC } from '../../src/admin/traffic-question.js'
import { mergeTraffic, requestsIn, type Traffic } from '../../src/telemetry/metrics/overview.js'
import { createAllTraffic } from '../../src/workers/all-workers-traffic.js'

function traffic(ok: number): Traffic {
  const responses = { ok, limited: 0, client_error: 0, server_error: 0 }
  const services = [{ service: 'payments', tier: 'free', responses, decisions: {}, decided_by: {} }]
  return { ...mergeTraffic([]), services, connections: 1, degraded: true }
}

function workers() {
  let answers: Readonly<Record<number, number>> = {}
  const all = createAllTraffic(async () =>
    Object.entries(answers).map(([process, ok]) => ({ process: Number(process), traffic: traffic(ok) })),
  )
  return {
    ended: all.ended,
    /** Returns the sums over workers that have counted this, by process id. */
    async sum(oks: Readonly<Record<number, number>>) {
      answers = oks
      const sum = await all.traffic()
      return [requestsIn(sum), sum.connections]
    },
  }
}

t.test('the traffic of workers that come and go shows neither a jump nor a dip', async (t) => {
  const { sum, ended } = workers()
  t.same(await sum({ 1: 100, 2: 100 }), [200, 2])
  // Worker 1 drains, and reports what it had counted; worker 3 takes its place.
  ended(1, traffic(104))
  t.same(await sum({ 2: 110, 3: 6 }), [220, 2])
  // Worker 2 is killed: its last report is older than its last answer.
  ended(2, traffic(50))
  t.same(await sum({ 3: 10, 4: 1 }), [225, 2])
  // Worker 3 is killed and has reported nothing. Another one gets its id.
  ended(3, undefined)
  t.same(await sum({ 4: 1 }), [225, 1])
  t.same(await sum({ 3: 2, 4: 1 }), [227, 2])
  // Worker 4 is too busy to answer.
  t.same(await sum({ 3: 2 }), [227, 2])
  // A worker ends that has never answered.
  ended(5, undefined)
  t.same(await sum({ 3: 2, 4: 9 }), [235, 2])
})

t.test('each worker answers for itself', async (t) => {
  const answer = await TRAFFIC.answer({ metrics: { traffic: () => traffic(3) } }, null)
  t.same(answer, [{ process: process.pid, traffic: traffic(3) }])
  t.same(TRAFFIC.merge([answer, answer], null), [...answer, ...answer])
})
