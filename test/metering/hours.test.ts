// Tests src/metering/all-gateways-hours.ts
import t from 'tap'
import { type Fleet, LONE_FLEET } from '../../src/fleet/gateway-rpc.js'
import type { Ask } from '../../src/fleet/question.js'
import { createHoursOfAll, HOURS } from '../../src/metering/all-gateways-hours.js'
import { HOUR, type HoursReading } from '../../src/metering/hours.js'
import { eventually } from '../support/eventually.js'
import { openMeter, METERED_SINCE as START } from '../support/gateway/metered.js'
import { scratchFolder } from '../support/scratch.js'

const AWAY = { http: { url: 'http://127.0.0.1:1/', timeout: 100 } }
const hourOf = (at: number) => Math.floor(at / HOUR) * HOUR
const sorted = ({ hours, since }: HoursReading) => ({ since, hours: [...hours].sort((a, b) => a[0] - b[0]) })

t.test('the use of one consumer is added up by hour, in memory and on disk', async (t) => {
  const path = scratchFolder(t, 'hours-')
  const { metering, clock, request } = await openMeter(t, path, AWAY)
  const use = (consumer: string, tenant?: string) => request(consumer, { tenant, cost: 3 })
  use('acme', 'acme-inc')
  // Other consumers of a tenant with the same name.
  use('bob', 'acme')
  for (let i = 0; i < 3; i++) {
    clock.now += HOUR
    await metering.tick()
    use('acme', 'acme-inc')
    clock.now += 60_000
    await metering.tick()
    use('acme')
  }
  const at = (hours: number) => hourOf(START) + hours * HOUR
  const acme = (await metering.hours('acme'))!
  t.strictSame(sorted(acme), {
    since: 0,
    hours: [[at(0), 1, 3, 0], ...[1, 2, 3].map((n) => [at(n), 2, 6, 0])],
  })
  t.strictSame(await metering.hours('acme-inc'), { since: 0, hours: [] }, 'a tenant is no consumer')
  t.strictSame(await metering.hours('nobody'), { since: 0, hours: [] })
  use('acme')
  t.equal(await metering.hours('acme'), acme, 'an answer is reused')
  clock.now += 22 * HOUR
  await metering.close()

  const next = await openMeter(t, path, AWAY)
  next.clock.now = clock.now
  await next.metering.tick()
  t.strictSame(
    sorted((await next.metering.hours('acme'))!).hours.map(([hour, requests]) => [hour, requests]),
    [
      [at(2), 2],
      [at(3), 3],
    ],
    'the last 24 hours, as the next process finds them',
  )
})

t.test('what an ended process had given up is missing for the next one, too', async (t) => {
  const path = scratchFolder(t, 'hours-')
  const to = { file: { path: `${scratchFolder(t, 'hours-')}/usage.jsonl`, size: 1e9 } }
  const room = { spool: { path, size: 32_768 } }
  const first = await openMeter(t, path, to, room)
  for (let i = 0; i < 6; i++) {
    first.request('acme')
    first.clock.now += HOUR
    await first.metering.tick()
    await eventually('it is sent', () => first.metering.state().waiting === 0)
  }
  await first.metering.close()
  // Each takes the folder of the one before over.
  for (let i = 0; i < 2; i++) {
    const next = await openMeter(t, path, to, room)
    next.clock.now = first.clock.now + 60_000
    await next.metering.tick()
    const { hours, since } = (await next.metering.hours('acme'))!
    t.ok(hours.length > 0 && hours.length < 5)
    t.equal(hourOf(since), Math.min(...hours.map(([hour]) => hour)))
    await next.metering.close()
  }
})

t.test('what the spool has given up, and what nobody had time to read, is said to be missing', async (t) => {
  const { metering, clock, request } = await openMeter(
    t,
    scratchFolder(t, 'hours-'),
    {
      file: { path: `${scratchFolder(t, 'hours-')}/usage.jsonl`, size: 1e9 },
    },
    { spool: { path: scratchFolder(t, 'hours-'), size: 32_768 } },
  )
  for (let i = 0; i < 6; i++) {
    request('acme')
    clock.now += HOUR
    await metering.tick()
    await eventually('it is sent', () => metering.state().waiting === 0)
  }
  const known = (await metering.hours('acme'))!
  t.ok(known.hours.length < 5)
  t.equal(hourOf(known.since), Math.min(...known.hours.map(([hour]) => hour)))
  const all = await Promise.all(['a', 'b', 'c', 'd'].map((id) => metering.hours(id)))
  t.strictSame(all[3], { hours: [], since: clock.now }, 'too many at a time')
})

t.test('consumers that are not told apart have no hours', async (t) => {
  const { metering } = await openMeter(t, scratchFolder(t, 'hours-'), AWAY, { by: ['tenant', 'service'] })
  t.equal(metering.hours('acme'), undefined)
  const own = (async () => HOURS.answer({ metering }, 'acme')) as unknown as Ask
  t.match(await createHoursOfAll(() => LONE_FLEET, own)('acme'), { hours: null, since: null })
})

t.test('gateways are added up, and an answer that is none is left out', async (t) => {
  const now = hourOf(START)
  const reading: HoursReading = { hours: [[now, 1, 2, 3]], since: 0 }
  const answers: unknown[] = [
    {
      hours: [
        [now, 10, 20, 30],
        [now - HOUR, 1, 1, 1],
      ],
      since: now - HOUR,
    },
    null,
    { hours: [[now, -1, 0, 0]], since: 0 },
    { hours: [[now, 1, 0]], since: 0 },
    { hours: Array(49).fill([now, 1, 1, 1]), since: 0 },
    { hours: [[now, 1, 1, 1]], since: '2026' },
    { hours: [[now, 1, 1, 1e300]], since: 0 },
    'x',
  ]
  const fleet = {
    ask: async () => ({
      answers: answers.map((answer, i) => ({ node: `gw-${i}`, member: `gw-${i}~1`, answer })),
      silent: ['gw-9'],
      problem: undefined,
    }),
  } as unknown as Pick<Fleet, 'ask'>
  const find = createHoursOfAll(
    () => fleet,
    (async () => reading) as unknown as Ask,
    () => now + 60_000,
  )
  const { hours, since, nodes } = await find('acme')
  t.equal(hours!.length, 24)
  t.strictSame(hours!.slice(-3), [
    { hour: new Date(now - 2 * HOUR).toISOString(), requests: 0, cost: 0, denied: 0 },
    { hour: new Date(now - HOUR).toISOString(), requests: 1, cost: 1, denied: 1 },
    { hour: new Date(now).toISOString(), requests: 11, cost: 22, denied: 33 },
  ])
  t.equal(since, new Date(now - HOUR).toISOString())
  t.strictSame(nodes, { answered: 9, silent: ['gw-9'], problem: null })
  t.equal(
    HOURS.forGateways!('x'.repeat(1025), async () => reading),
    null,
  )
  t.equal(HOURS.merge([null, null], 'acme'), null)
  t.strictSame(HOURS.merge([null, reading], 'acme'), reading)
})

t.test('a process whose disk stands still says that everything may be missing', async (t) => {
  const began = Date.now()
  const { hours, since } = (await HOURS.answer({ metering: { hours: () => new Promise(() => {}) } }, 'acme'))!
  t.strictSame(hours, [])
  t.ok(since > began && since <= Date.now())
})
