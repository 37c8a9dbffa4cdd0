// Tests src/tier-sources/source-health.ts
import fc from 'fast-check'
import t from 'tap'
import { createShares, type Shares } from '../../src/shares.js'
import { createTierSource } from '../../src/tier-sources/source.js'
import { NoAnswerForOne, type TierAnswer } from '../../src/tier-sources/tier-answer.js'
import { createCounts, type Found } from '../../src/tier-sources/tier-source.js'

const SECOND = 1000
const MINUTE = 60 * SECOND

interface Asked {
  readonly consumer: string
  readonly signal: AbortSignal
  answer(plan: TierAnswer | undefined): Promise<void>
  fail(error?: Error): Promise<void>
}

/** Makes a source whose answers and clock the test controls. */
function scripted(
  changes: {
    wait?: boolean
    timeout?: number
    max_consumers?: number
    stale?: number
    pool?: number
    shares?: Shares
  } = {},
) {
  const asked: Asked[] = []
  const clock = { now: 0 }
  const logged: string[] = []
  const counts = createCounts()
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve))
  const source = createTierSource({
    name: 'billing',
    tellsTenants: true,
    wait: true,
    ttl: 5 * MINUTE,
    stale: 60 * MINUTE,
    negative_ttl: 30 * SECOND,
    timeout: 30_000,
    max_consumers: 1000,
    ...changes,
    counts,
    log: { info: (_, message) => logged.push(message), warn: (_, message) => logged.push(message) },
    now: () => clock.now,
    random: () => 0.5,
    directory: {
      look: (consumer, signal) =>
        new Promise((resolve, reject) => {
          asked.push({
            consumer,
            signal,
            answer(plan) {
              resolve(plan)
              return settled()
            },
            fail(error = new Error('broken')) {
              reject(error)
              return settled()
            },
          })
        }),
      close: async () => {},
    },
  })
  t.teardown(() => source.close())
  const find = (consumer = 'acme') => source.find(consumer, clock.now)
  /** Looks a consumer up, and waits until the source is asked. */
  async function begin(consumer = 'acme'): Promise<Promise<Found | undefined>[]> {
    const found = find(consumer)
    await settled()
    return [Promise.resolve(found)]
  }
  async function learn(plan: TierAnswer | undefined, consumer = 'acme'): Promise<Found | undefined> {
    const [found] = await begin(consumer)
    await asked.at(-1)!.answer(plan)
    return found
  }
  async function goDown(): Promise<void> {
    for (const consumer of ['x', 'y', 'z']) {
      const [found] = await begin(consumer)
      await asked.at(-1)!.fail()
      await found
    }
  }
  return { source, asked, clock, logged, counts, find, begin, learn, goDown, settled }
}

const pro = { tier: 'pro', tenant: undefined }
const free = { tier: 'free', tenant: undefined }

t.test("a consumer's first request waits for the answer, later ones have it from memory", async (t) => {
  const { learn, find, asked, counts, clock } = scripted()
  t.same(await learn({ tier: 'pro', tenant: 'acme-group' }), {
    tier: 'pro',
    tenant: 'acme-group',
    stale: false,
  })
  clock.now += 5 * MINUTE - 1
  t.same(find(), { tier: 'pro', tenant: 'acme-group', stale: false })
  t.equal(asked.length, 1)
  t.match(counts, { lookups: { miss: 1, hit: 1 }, questions: { found: 1 } })
})

t.test('concurrent requests of one consumer share one lookup', async (t) => {
  const { find, asked, settled } = scripted()
  const all = Array.from({ length: 50 }, () => find())
  await settled()
  t.equal(asked.length, 1)
  await asked[0]!.answer(pro)
  for (const one of await Promise.all(all)) t.match(one, { tier: 'pro', stale: false })
})

t.test('after its ttl an answer still holds, while a lookup runs in the background', async (t) => {
  const { learn, find, asked, clock, counts, settled } = scripted()
  await learn(pro)
  clock.now += 5 * MINUTE
  t.match(find(), { tier: 'pro', stale: true })
  t.match(find(), { tier: 'pro', stale: true })
  await settled()
  t.equal(asked.length, 2)
  await asked[1]!.answer(free)
  t.match(find(), { tier: 'free', stale: false })
  t.match(counts.lookups, { miss: 1, stale: 2, hit: 1 })
})

t.test('after ttl and stale no answer holds, and the request waits for a new one', async (t) => {
  const { learn, begin, asked, clock } = scripted()
  await learn(pro)
  clock.now += 65 * MINUTE
  const [found] = await begin()
  await asked[1]!.answer(free)
  t.match(await found, { tier: 'free', stale: false })
})

t.test('an unknown consumer is remembered, and looked up again in the background', async (t) => {
  const { learn, find, asked, clock, counts, settled } = scripted()
  t.equal(await learn(undefined), undefined)
  clock.now += 30 * SECOND - 1
  t.equal(find(), undefined)
  t.equal(asked.length, 1)
  clock.now += 1
  t.equal(find(), undefined)
  await settled()
  await asked[1]!.answer(pro)
  t.match(find(), { tier: 'pro', stale: false })
  t.match(counts, { lookups: { miss: 1, negative: 2, hit: 1 }, questions: { none: 1, found: 1 } })
})

t.test('a failed lookup gives no tier, and its consumer does not wait a second time', async (t) => {
  const { begin, find, asked, clock, counts, settled } = scripted()
  const [found] = await begin()
  await asked[0]!.fail()
  t.equal(await found, undefined)
  t.equal(find(), undefined, 'not asked again at once')
  clock.now += SECOND
  t.equal(find(), undefined, 'asked again, and not waited for')
  await settled()
  t.equal(asked.length, 2)
  await asked[1]!.answer(pro)
  t.match(find(), { tier: 'pro', stale: false })
  t.match(counts, { lookups: { miss: 1, skipped: 2, hit: 1 }, questions: { error: 1, found: 1 } })
})

t.test('a lookup that hangs is waited for until its timeout, and then aborted', async (t) => {
  const { begin, asked, counts } = scripted({ timeout: 10 })
  const [found] = await begin()
  t.equal(await found, undefined)
  t.equal(asked[0]!.signal.aborted, true)
  t.match(counts.questions, { timeout: 1, error: 0 })
  await asked[0]!.answer(pro)
  t.match(counts.questions, { timeout: 1, found: 0 }, 'a late answer is ignored')
})

t.test(
  'after three failures in a row the source is down: no request waits, and lookups are rare',
  async (t) => {
    const { goDown, find, asked, clock, source, logged, settled } = scripted()
    await goDown()
    t.equal(source.describe().up, false)
    for (const consumer of ['a', 'b', 'c']) t.equal(find(consumer), undefined)
    await settled()
    t.equal(asked.length, 3)
    clock.now += SECOND
    for (const consumer of ['a', 'b', 'c']) t.equal(find(consumer), undefined)
    await settled()
    t.equal(asked.length, 4, 'one of them is asked for')
    await asked[3]!.fail()
    clock.now += 2 * SECOND - 1
    t.equal(find('d'), undefined)
    await settled()
    t.equal(asked.length, 4, 'the pauses grow')
    clock.now += 1
    t.equal(find('d'), undefined)
    await settled()
    await asked[4]!.answer(pro)
    t.equal(source.describe().up, true)
    t.match(find('d'), { tier: 'pro' })
    t.ok(find('e') instanceof Promise, 'new consumers wait again')
    t.same(logged, [
      'a tier could not be looked up',
      'the tier source does not answer; the last known tiers stay in force, and no request waits for it',
      'the tier source answers again',
    ])
  },
)

t.test('one consumer whose lookups always fail does not take the source down for others', async (t) => {
  const { begin, find, asked, clock, source, settled } = scripted()
  async function failFor(consumer: string): Promise<void> {
    const count = asked.length
    find(consumer)
    await settled()
    if (asked.length > count) await asked.at(-1)!.fail()
    clock.now += SECOND
  }
  for (let i = 0; i < 9; i++) await failFor(i % 2 === 0 ? 'evil' : 'twin')
  t.equal(asked.length, 9)
  t.equal(source.describe().up, true)
  const [found] = await begin('acme')
  await asked.at(-1)!.answer(pro)
  t.match(await found, { tier: 'pro' }, 'a new consumer still waits for its answer')
  for (let i = 0; i < 10; i++) await failFor('evil')
  t.equal(source.describe().up, false, 'if no other consumer asks, it goes down in the end')
  const before = asked.length
  find('evil')
  await settled()
  t.equal(asked.length, before, 'those that have failed do not find out whether it is back')
  find('bob')
  await settled()
  t.equal(asked.at(-1)!.consumer, 'bob', 'before others had their turn')
  await asked.at(-1)!.answer(pro)
  t.equal(source.describe().up, true)
})

t.test('errors about single consumers do not take the source down', async (t) => {
  const { begin, asked, source, counts, find, logged } = scripted()
  for (let i = 0; i < 50; i++) {
    const [found] = await begin(`evil-${i}`)
    await asked.at(-1)!.fail(new NoAnswerForOne('it answers 400'))
    t.equal(await found, undefined)
  }
  t.equal(source.describe().up, true)
  t.equal(counts.questions.error, 50)
  t.same(logged, ['a tier could not be looked up'], 'once a minute')
  const before = asked.length
  t.equal(find('evil-1'), undefined)
  t.equal(asked.length, before, 'a consumer that waited in vain is not looked up again at once')
})

t.test('errors about single consumers do not hide that the source is down', async (t) => {
  const { begin, asked, clock, source, find, settled } = scripted()
  for (const consumer of ['a', 'b', 'c']) {
    const [found] = await begin(consumer)
    await asked.at(-1)!.fail()
    await found
    if (consumer === 'c') break
    await begin('evil')
    await asked.at(-1)!.fail(new NoAnswerForOne('it answers 400'))
    clock.now += SECOND
  }
  t.equal(source.describe().up, false)
  clock.now += 2 * SECOND
  const before = asked.length
  find('evil')
  await settled()
  t.equal(asked.length, before + 1, 'any consumer may find out whether it is back')
  await asked.at(-1)!.fail(new NoAnswerForOne('it answers 400'))
  t.equal(source.describe().up, false)
  clock.now += 2 * SECOND
  find('bob')
  await settled()
  t.equal(asked.at(-1)!.consumer, 'bob', 'the next lookup is for another consumer')
  await asked.at(-1)!.answer(pro)
  t.equal(source.describe().up, true)
})

t.test('single failures between answers do not take the source down', async (t) => {
  const { begin, asked, source } = scripted()
  for (let i = 0; i < 12; i++) {
    const [found] = await begin(`c${i}`)
    await (i % 3 === 2 ? asked.at(-1)!.answer(pro) : asked.at(-1)!.fail())
    await found
  }
  t.equal(source.describe().up, true)
})

t.test('while a source is down the last known tier holds, until the end of stale', async (t) => {
  const { learn, goDown, find, clock } = scripted()
  await learn(pro)
  clock.now += 5 * MINUTE
  await goDown()
  t.match(find(), { tier: 'pro', stale: true })
  clock.now += 60 * MINUTE - 1
  t.match(find(), { tier: 'pro', stale: true })
  clock.now += 1
  t.equal(find(), undefined)
})

t.test('a changed consumer is looked up anew, and its request waits', async (t) => {
  const { source, learn, begin, find, asked } = scripted()
  await learn(pro)
  source.changed('acme')
  source.changed('somebody who never came')
  const [found] = await begin()
  await asked[1]!.answer(free)
  t.match(await found, { tier: 'free', stale: false })
  t.match(find(), { tier: 'free', stale: false })
  t.equal(asked.length, 2)
})

t.test('an answer that a change overtook is used once, and looked up again', async (t) => {
  const { source, begin, find, asked, settled } = scripted()
  const [found] = await begin()
  source.changed('acme')
  await asked[0]!.answer(pro)
  t.match(await found, { tier: 'pro' })
  const again = find()
  await settled()
  await asked[1]!.answer(free)
  t.match(await again, { tier: 'free' })
  t.match(find(), { tier: 'free', stale: false })
})

t.test('when a changed consumer cannot be looked up, its last known tier holds as stale', async (t) => {
  const { source, learn, begin, find, asked, clock, settled } = scripted()
  await learn(pro)
  source.changed('acme')
  const [found] = await begin()
  await asked[1]!.fail()
  t.match(await found, { tier: 'pro', stale: true })
  clock.now += SECOND
  t.match(find(), { tier: 'pro', stale: true }, 'no request waits a second time')
  await settled()
  await asked[2]!.answer(free)
  t.match(find(), { tier: 'free', stale: false })
})

t.test('when anything may have changed, all is looked up anew in the background', async (t) => {
  const { source, learn, find, asked, clock, settled } = scripted()
  await learn(pro)
  await learn(undefined, 'other')
  clock.now += 1
  source.allChanged()
  t.match(find(), { tier: 'pro', stale: true })
  t.equal(find('other'), undefined)
  await settled()
  await asked[2]!.answer(free)
  await asked[3]!.answer(pro)
  t.match(find(), { tier: 'free', stale: false })
  t.match(find('other'), { tier: 'pro', stale: false })
})

t.test("without `wait` even a consumer's first request does not wait", async (t) => {
  const { find, asked, settled, counts } = scripted({ wait: false })
  t.equal(find(), undefined)
  await settled()
  await asked[0]!.answer(pro)
  t.match(find(), { tier: 'pro', stale: false })
  t.match(counts.lookups, { skipped: 1, miss: 0, hit: 1 })
})

t.test('at most 512 lookups run at once; further consumers are not looked up', async (t) => {
  const { find, asked, settled, counts } = scripted()
  const found = Array.from({ length: 600 }, (_, i) => find(`c${i}`))
  await settled()
  t.equal(asked.length, 512)
  t.equal(found.filter((one) => one instanceof Promise).length, 512)
  t.match(counts.lookups, { miss: 512, skipped: 88 })
})

t.test('an id that UTF-8 cannot encode is unknown, without a lookup', async (t) => {
  const { find, asked, settled } = scripted()
  t.equal(find('acme\ud800'), undefined)
  await settled()
  t.equal(asked.length, 0)
})

t.test('a tier that the configuration does not have is logged once a minute', async (t) => {
  const { source, clock, logged, counts } = scripted()
  for (let i = 0; i < 5; i++) source.unknownTier('platinum')
  clock.now += MINUTE
  source.unknownTier('platinum')
  t.equal(logged.length, 2)
  t.equal(counts.unknownTiers, 6)
})

t.test('a closed source looks up nothing', async (t) => {
  const { source, find, asked, settled } = scripted()
  await source.close()
  t.equal(find(), undefined)
  await settled()
  t.equal(asked.length, 0)
})

t.test(
  'it never returns a tier the source did not give, nor one past ttl and stale, and always ends',
  async () => {
    const consumer = fc.constantFrom('a', 'b', 'c')
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('find' as const), consumer }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('answer' as const), known: fc.boolean() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('fail' as const) }) },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant('wait' as const),
          ms: fc.constantFrom(1, SECOND, 29 * SECOND, 4 * MINUTE, 40 * MINUTE),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('changed' as const), consumer }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('allChanged' as const) }) },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { source, asked, clock, find, settled } = scripted()
        /** When each tier was given. Tiers count up, so every answer is distinct. */
        const said = new Map<string, number>()
        const waiting: Promise<unknown>[] = []
        const open: Asked[] = []
        let number = 0
        let seen = 0
        const check = (consumer: string, found: Found | undefined) => {
          if (found === undefined) return
          const at = said.get(`${consumer} ${found.tier}`)
          if (at === undefined) throw new Error(`${consumer} was never said to have ${found.tier}`)
          if (clock.now - at >= 65 * MINUTE) throw new Error('it is too old')
          if (clock.now - at >= 5 * MINUTE && !found.stale) throw new Error('it is old, and not marked so')
        }
        for (const one of steps) {
          if (one.kind === 'find') {
            const found = find(one.consumer)
            if (found instanceof Promise) waiting.push(found.then((late) => check(one.consumer, late)))
            else check(one.consumer, found)
            await settled()
            open.push(...asked.slice(seen))
            seen = asked.length
          } else if (one.kind === 'answer') {
            const question = open.shift()
            const tier = one.known ? `t${number++}` : undefined
            if (question !== undefined) said.set(`${question.consumer} ${tier}`, clock.now)
            await question?.answer(tier === undefined ? undefined : { tier, tenant: undefined })
          } else if (one.kind === 'fail') await open.shift()?.fail()
          else if (one.kind === 'wait') clock.now += one.ms
          else if (one.kind === 'changed') source.changed(one.consumer)
          else source.allChanged()
        }
        for (const question of open) await question.fail()
        await Promise.all(waiting)
      }),
      { numRuns: 150 },
    )
  },
)

t.test('a source runs as many lookups as it has connections; callers take turns', async (t) => {
  const shares = createShares()
  const { source, asked, settled } = scripted({ pool: 2, shares })
  const flood = Array.from({ length: 60 }, (_, i) => source.find(`new-${i}`, 0, '192.0.2.1'))
  const payer = source.find('acme', 0, '192.0.2.2')
  await settled()
  t.equal(asked.length, 2)
  await asked[0]!.answer(free)
  await asked[1]!.answer(free)
  await settled()
  t.ok(
    asked.slice(0, 4).some(({ consumer }) => consumer === 'acme'),
    'the second caller is next but one at most, behind two of sixty',
  )
  await asked.find(({ consumer }) => consumer === 'acme')!.answer(pro)
  t.match(await payer, { tier: 'pro', stale: false })
  for (let i = 0; i < asked.length; i++) await asked[i]!.answer(free)
  t.equal(asked.length, 61)
  t.match(await Promise.all(flood), new Array(60).fill({ tier: 'free' }))
  t.equal([...shares.all()][0]!.held, 0)
})

t.test('a lookup that waits too long for a connection is no failure of the source', async (t) => {
  const shares = createShares()
  const { source, asked, counts, settled, logged } = scripted({ pool: 1, timeout: 500, shares })
  const slow = source.find('first', 0, '192.0.2.1')
  const waits = Array.from({ length: 20 }, (_, i) => source.find(`new-${i}`, 0, '192.0.2.1'))
  await settled()
  // The running lookup times out, too: one failure, not twenty-one.
  t.strictSame(await Promise.all([slow, ...waits]), new Array(21).fill(undefined))
  await settled()
  t.equal(source.describe().up, true)
  const { timeout, dropped } = counts.questions
  t.equal(timeout + dropped, 21)
  // The next lookup may get its turn just before its own time is over; it then fails like the first.
  t.ok(timeout === 1 || timeout === 2, `${timeout} of the source's own`)
  t.strictSame(logged, ['a tier could not be looked up'])
  const again = source.find('new-3', 0, '192.0.2.1')
  await settled()
  t.equal(asked.at(-1)!.consumer, 'new-3', 'it is asked for again at once')
  await asked.at(-1)!.answer(pro)
  t.match(await again, { tier: 'pro' })
  t.equal([...shares.all()][0]!.held, 0)
})

t.test("a caller that joins another caller's lookup gets it at the earlier turn of the two", async (t) => {
  const { source, asked, settled } = scripted({ pool: 1 })
  for (let i = 0; i < 20; i++) void source.find(`new-${i}`, 0, '192.0.2.1')
  void source.find('acme', 0, '192.0.2.1')
  const own = source.find('acme', 0, '192.0.2.2')
  await settled()
  await asked[0]!.answer(free)
  await asked[1]!.answer(free)
  t.equal(asked[2]!.consumer, 'acme')
  await asked[2]!.answer(pro)
  t.match(await own, { tier: 'pro' })
  for (let i = 3; i < asked.length; i++) await asked[i]!.answer(free)
  t.equal(asked.length, 21, 'and it is asked once')
})

t.test('one caller holds a quarter of all lookups at most; beyond, its requests do not wait', async (t) => {
  const shares = createShares()
  const { source, counts, settled } = scripted({ pool: 1, shares })
  const flood = Array.from({ length: 200 }, (_, i) => source.find(`new-${i}`, 0, '192.0.2.1'))
  t.equal(flood.filter((found) => found === undefined).length, 72)
  t.equal(counts.lookups.skipped, 72)
  t.ok(source.find('acme', 0, '192.0.2.2') instanceof Promise)
  await settled()
})

t.test('a caller without a share does not use up the probe of a source that is down', async (t) => {
  const { source, asked, clock } = scripted({ shares: createShares() })
  const ask = (consumer: string, address: string) => source.find(consumer, clock.now, address)
  for (let i = 0; i < 512; i++) void ask(`slow-${i}`, '192.0.2.1')
  for (const consumer of ['a', 'b', 'c']) {
    void ask(consumer, '192.0.2.2')
    await asked.at(-1)!.fail()
  }
  t.notOk(source.describe().up)
  clock.now += 2 * SECOND
  const before = asked.length
  void ask('one more', '192.0.2.1')
  t.equal(asked.length, before, 'it has no share left')
  void ask('d', '192.0.2.2')
  t.equal(asked.length, before + 1, 'another caller probes')
})

t.test('when a source goes down, waiting requests go on', async (t) => {
  const { source, asked, settled } = scripted({ pool: 3 })
  const all = Array.from({ length: 30 }, (_, i) => source.find(`new-${i}`, 0, `192.0.2.${i}`))
  await settled()
  for (const one of [...asked]) await one.fail()
  await settled()
  for (let i = 3; i < asked.length; i++) await asked[i]!.fail()
  t.strictSame(await Promise.all(all), new Array(30).fill(undefined))
  t.equal(source.describe().up, false)
  t.ok(asked.length < 10, `${asked.length} were asked`)
})
