import { spawnSync } from 'node:child_process'
import t, { type Test } from 'tap'
import { createOverload, type OverloadOptions } from '../../../src/gateway/edge/overload.js'

const SETTINGS = { event_loop_delay: 200, heap: 85, exit_heap: 95 }

/** Creates one whose readings the test sets, and that looks when told to. */
function overloadOf(t: Test, changes: Partial<OverloadOptions> = {}) {
  const readings = { delay: 0, heap: 0 }
  const exits: number[] = []
  const overload = createOverload({
    settings: SETTINGS,
    exhausted: (heap) => void exits.push(heap),
    readings: { eventLoopDelay: () => readings.delay, heap: () => readings.heap, close() {} },
    random: () => 0.5,
    tickMs: 1_000_000,
    ...changes,
  })
  t.teardown(() => overload.close())
  const look = (times: number, now: Partial<typeof readings>) => {
    Object.assign(readings, now)
    for (let i = 0; i < times; i++) overload.tick()
  }
  /** Returns which of three classes are shed. */
  const shed = () =>
    [0, 1, 2].filter((rank) => overload.pressure > 0 && overload.sheds(rank, 3) !== undefined)
  return { overload, look, shed, exits }
}

t.test('one long delay sheds nothing, 2 s of delays do', async (t) => {
  const { overload, look } = overloadOf(t)
  look(3, { delay: 900 })
  look(1, { delay: 10 })
  look(3, { delay: 900 })
  t.equal(overload.pressure, 0)
  look(1, { delay: 900 })
  t.ok(overload.pressure > 0)
})

t.test('the lowest class is shed first, and in the end all', async (t) => {
  const { overload, look, shed } = overloadOf(t)
  const seen: number[][] = []
  for (let i = 0; i < 7; i++) {
    look(1, { delay: 300 })
    seen.push(shed())
  }
  t.strictSame(seen.slice(2), [[], [0], [0], [0, 1], [0, 1, 2]], 'a quarter of three classes at a time')
  t.equal(overload.pressure, 1)
  t.equal(overload.sheds(0, 3), 'event_loop')
  t.equal(overload.sheds(0, 1), 'event_loop', 'a single class is shed')
})

t.test('a share of the middle class is shed', async (t) => {
  let share = 0
  const { overload, look } = overloadOf(t, { random: () => share })
  look(5, { delay: 300 })
  t.equal(overload.pressure, 0.5)
  share = 0.49
  t.equal(overload.sheds(1, 3), 'event_loop', 'half of the middle one')
  share = 0.51
  t.equal(overload.sheds(1, 3), undefined)
  t.equal(overload.sheds(0, 3), 'event_loop')
  t.equal(overload.sheds(2, 3), undefined)
})

t.test('pressure drops step by step, and only when readings are clearly better', async (t) => {
  const { overload, look } = overloadOf(t)
  look(20, { delay: 300 })
  look(20, { delay: 170 })
  t.equal(overload.pressure, 1, 'below the mark, but not by a fifth')
  look(2, { delay: 100 })
  t.equal(overload.pressure, 0.5)
  look(2, { delay: 100 })
  t.equal(overload.pressure, 0)
})

t.test('a full heap sheds, too, and is named as the reason', async (t) => {
  const { overload, look } = overloadOf(t)
  look(9, { heap: 90 })
  t.equal(overload.sheds(2, 3), 'heap')
  t.strictSame(overload.describe(), { event_loop: 0, heap: 1 })
})

t.test('a heap that stays full for 2 s ends the process, and reports that once', async (t) => {
  const { look, exits } = overloadOf(t)
  look(3, { heap: 96 })
  look(1, { heap: 94 })
  look(3, { heap: 97 })
  t.strictSame(exits, [])
  look(5, { heap: 97 })
  t.strictSame(exits, [97])
})

t.test('0 switches each check off', async (t) => {
  const { overload, look, exits } = overloadOf(t, {
    settings: { event_loop_delay: 0, heap: 0, exit_heap: 0 },
  })
  look(20, { delay: 10_000, heap: 100 })
  t.equal(overload.pressure, 0)
  t.strictSame(exits, [])
})

t.test('an idle process has no pressure', async (t) => {
  let looked = 0
  const overload = createOverload({
    settings: { event_loop_delay: 60_000, heap: 99, exit_heap: 0 },
    exhausted: () => t.fail('not here'),
  })
  t.teardown(() => overload.close())
  for (; looked < 3; looked++) overload.tick()
  t.strictSame(overload.describe(), { event_loop: 0, heap: 0 })
  t.equal(overload.pressure, 0)
})

t.test('a small heap sheds before V8 ends the process, and garbage does not', async (t) => {
  const script = `
    const { createOverload } = await import(${JSON.stringify(new URL('../../../dist/gateway/edge/overload.js', import.meta.url).href)})
    const { setTimeout: sleep } = await import('node:timers/promises')
    const settings = { event_loop_delay: 0, heap: 85, exit_heap: 0 }
    const overload = createOverload({ settings, exhausted() {}, tickMs: 20 })
    const block = (size) => Array.from({ length: size }, (_, i) => ({ i }))
    let kept = [], most = 0
    // Three times the heap, a little at a time, and nothing of it stays.
    for (let i = 0; i < 200; i++) {
      kept.push(block(20_000))
      if (kept.length > 10) kept.shift()
      most = Math.max(most, overload.pressure)
      await sleep(2)
    }
    for (kept = []; overload.pressure < 1; await sleep(5)) kept.push(block(2_000))
    console.log(JSON.stringify({ most, kept: kept.length }))
    process.exit()`
  const flags = ['--max-old-space-size=64', '--input-type=module', '-e', script]
  const { stdout, stderr, status } = spawnSync(process.execPath, flags, { encoding: 'utf8' })
  t.equal(status, 0, stderr.slice(0, 300))
  t.match(JSON.parse(stdout || '{}'), { most: 0 })
})
