import t from 'tap'
import { ANSWER_BYTES, LONE_FLEET } from '../../../src/fleet/gateway-rpc.js'
import { answerHistory, createHistoryOfAll } from '../../../src/telemetry/history/all-gateways-history.js'
import {
  COUNTED,
  EVERY_MS,
  type HistoryReading,
  MOST_EVENTS,
  SAMPLES,
} from '../../../src/telemetry/history/history.js'
import { DURATIONS_MS } from '../../../src/telemetry/metrics/overview.js'

const NOW = 1_760_000_055_000
/** Start of the last whole ten seconds. */
const LAST = 1_760_000_040_000
const HOUR_AGO = LAST - (SAMPLES - 1) * EVERY_MS

function sample(at: number, value = 1): number[] {
  return [at, ...COUNTED.map(() => value), ...DURATIONS_MS.map(() => value), value]
}

function reading(more: Partial<HistoryReading> = {}): HistoryReading {
  return { bounds_ms: DURATIONS_MS, samples: [sample(LAST)], events: [], ...more }
}

/** Other gateways that answer with this, and a gateway that asks them. */
function ask(answers: readonly unknown[], own: HistoryReading | null = reading()) {
  const asked: unknown[] = []
  const fleet = {
    ...LONE_FLEET,
    node: 'own',
    async ask<A>(_kind: string, body: unknown) {
      asked.push(body)
      const told = answers.map((answer, i) => ({ node: `gw-${i}`, member: `gw-${i}~1`, answer: answer as A }))
      return { answers: told, silent: ['gone'], problem: undefined }
    },
  }
  const find = createHistoryOfAll(
    () => fleet,
    own === null ? undefined : { read: () => own },
    () => NOW,
  )
  return { find, asked }
}

t.test(
  'samples of all gateways add up; one that has none makes the number of gateways smaller',
  async (t) => {
    const { find } = ask([reading({ samples: [sample(LAST - EVERY_MS, 5), sample(LAST, 2)] })])
    const { from, to, nodes, samples } = await find('fleet', 0)
    t.same([from, to], [HOUR_AGO, LAST + EVERY_MS])
    t.same(nodes, { answered: 2, silent: ['gone'], problem: null })
    t.same(
      samples.map(({ at, gateways, counts }) => [at, gateways, counts[0], counts[24]]),
      [
        [LAST - EVERY_MS, 1, 5, 5],
        [LAST, 2, 3, 3],
      ],
    )
    const alone = await find('gateway', 0)
    t.same(alone.nodes, { answered: 1, silent: [], problem: null })
    t.equal(alone.samples.length, 1)
  },
)

t.test('readers who ask for different times share the questions to other gateways', async (t) => {
  const { find, asked } = ask([reading({ samples: [sample(LAST - EVERY_MS), sample(LAST)] })])
  for (let since = HOUR_AGO; since <= LAST; since += EVERY_MS) await find('fleet', since)
  t.same(asked, [LAST + EVERY_MS - SAMPLES * EVERY_MS, LAST + EVERY_MS - 12 * EVERY_MS])
  t.equal((await find('fleet', LAST)).samples.length, 1)
  t.same((await find('fleet', LAST + 3_600_000)).samples, [])
})

t.test('answers of other versions count as far as they can, and what is no answer is named', async (t) => {
  const other = { ...reading(), bounds_ms: [5, 10], samples: [[LAST, 1, 2, 3, 4, 5, 6, 7, 8, 9]] }
  const events = [
    { at: LAST, kind: 'started', text: 'a\u202e\u0000b' },
    { at: LAST, kind: 'teleported', text: 'later version' },
    { at: 9e15, kind: 'started', text: 'never' },
    null,
  ]
  const hostile = [
    null,
    'text',
    {},
    reading({ samples: [sample(LAST, -1)] }),
    reading({ samples: [sample(LAST, Number.MAX_VALUE)] }),
    reading({ samples: [[LAST]] }),
    reading({ samples: new Array(1000).fill(sample(LAST)) }),
    reading({ samples: [sample(LAST), sample(LAST)] }),
    reading({ bounds_ms: new Array(1000).fill(1) }),
    reading({ events: new Array(1000).fill(events[0]) }),
    { ...reading(), samples: [['1', ...sample(LAST).slice(1)]] },
    { ...reading(), events: {} },
  ]
  const { find } = ask([...hostile, other, { ...reading(), samples: [sample(LAST + 3)], events }])
  const found = await find('fleet', 0)
  t.equal(found.nodes.answered, 3)
  t.same(found.nodes.silent, ['gone', ...hostile.map((_, i) => `gw-${i}`)])
  t.same(
    found.samples.map(({ gateways, counts }) => [gateways, counts[0], counts[5], counts[6]]),
    [[2, 2, 7, 1]],
    'durations in other buckets do not count',
  )
  t.same(found.events, [
    { at: LAST, kind: 'started', text: 'a\ufffd\ufffdb', node: `gw-${hostile.length + 1}`, gateways: 1 },
  ])
})

t.test('a change that many gateways have taken is one event', async (t) => {
  const applied = (at: number) => ({ at, kind: 'config_applied', text: 'Configuration applied: x' }) as const
  const { find } = ask(
    Array.from({ length: 100 }, (_, i) => reading({ events: [applied(LAST + i)] })),
    reading({ events: [applied(LAST - EVERY_MS), applied(LAST + 50)] }),
  )
  const { events } = await find('fleet', 0)
  t.same(
    events.map(({ at, node, gateways }) => [at - LAST, node, gateways]),
    [
      [-EVERY_MS, 'own', 1],
      [0, 'gw-0', 101],
    ],
  )
})

t.test('a gateway answers with an hour at most, which fits into an answer whatever it holds', async (t) => {
  const most = Array.from({ length: SAMPLES }, (_, i) =>
    sample(HOUR_AGO + i * EVERY_MS, Number.MAX_SAFE_INTEGER),
  )
  const event = { at: NOW, kind: 'config_rejected', text: '\u6f22'.repeat(300) } as const
  const whole = reading({ samples: most, events: new Array(MOST_EVENTS).fill(event) })
  const asked: number[] = []
  const history = {
    read(since: number) {
      asked.push(since)
      return whole
    },
  }
  let handler: ((body: unknown) => unknown) | undefined
  answerHistory(
    {
      answer(kind, one) {
        t.equal(kind, 'history')
        handler = one
      },
    },
    history,
  )
  t.equal(handler!(LAST), whole)
  handler!({ since: 'x' })
  t.same(asked, [LAST, 0])
  t.ok(Buffer.byteLength(JSON.stringify(whole)) < ANSWER_BYTES - 1024)
  const { find } = ask(new Array(20).fill(whole), null)
  const { samples, nodes } = await find('fleet', 0)
  t.equal(nodes.answered, 20)
  t.ok(samples.every(({ counts }) => Number.isFinite(counts[0])))
})

t.test('events of a gateway whose clock is ahead do not push out those of the others', async (t) => {
  const event = (at: number, text: string) => ({ at, kind: 'started' as const, text })
  const ahead = Array.from({ length: MOST_EVENTS }, (_, i) => event(NOW + 3_600_000 + i, `ahead ${i}`))
  const { find } = ask([reading({ events: ahead })], reading({ events: [event(LAST, 'own')] }))
  const { events } = await find('fleet', 0)
  t.match(events, [{ node: 'own', text: 'own' }])
  t.equal(events.length, 1)
})
