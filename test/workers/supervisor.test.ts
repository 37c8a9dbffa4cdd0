import t, { type Test } from 'tap'
import { type Child, createSupervisor, type SupervisorOptions } from '../../src/workers/supervisor.js'
import { eventually } from '../support/eventually.js'

/** A process that does what a test says. */
interface Fake extends Child {
  readonly place: number
  readonly forkedAt: number
  readonly said: string[]
  serve(): void
  fail(reason: string): void
  end(how: string): void
}

function createFakes() {
  const forked: Fake[] = []
  const fork = (place: number): Fake => {
    const said: string[] = []
    let serve = () => {}
    let fail = (_: Error) => {}
    let end = (_: string) => {}
    const serving = new Promise<void>((resolve, reject) => {
      serve = resolve
      fail = reject
    })
    serving.catch(() => {})
    const ended = new Promise<string>((resolve) => {
      end = resolve
    })
    const fake: Fake = {
      place,
      pid: 100 + forked.length,
      forkedAt: performance.now(),
      said,
      serving,
      ended,
      serve,
      fail: (reason) => fail(new Error(reason)),
      end(how) {
        fail(new Error(`ended with ${how}`))
        end(how)
      },
      drain: (delayMs) => said.push(`drain ${delayMs}`),
      kill() {
        said.push('kill')
        fake.end('SIGKILL')
      },
    }
    forked.push(fake)
    return fake
  }
  return { fork, forked }
}

function supervise(t: Test, options: Partial<SupervisorOptions> = {}) {
  const { fork, forked } = createFakes()
  const lines: string[] = []
  const ends: string[] = []
  const say = (level: string) => (fields: object, message: string) =>
    lines.push(`${level}: ${message} ${JSON.stringify(fields)}`)
  const supervisor = createSupervisor({
    count: 2,
    fork,
    log: { info: say('info'), warn: say('warn'), error: say('error') },
    graceMs: () => 0,
    onEnded: ({ place }, reason) => ends.push(`${place} ${reason}`),
    ...options,
  })
  /** Starts it and lets all workers serve. */
  const started = async () => {
    const start = supervisor.start()
    for (const fake of forked) fake.serve()
    await start
  }
  t.teardown(() => {
    const stopped = supervisor.stop(0)
    for (const fake of forked) fake.end('code 0')
    return stopped
  })
  return { supervisor, forked, lines, ends, started }
}

t.test('a worker that ends is replaced, later each time it ends soon, up to a maximum', async (t) => {
  const { supervisor, forked, lines, ends, started } = supervise(t, {
    firstDelayMs: 40,
    longestDelayMs: 100,
  })
  await started()
  t.equal(forked.length, 2)
  for (const [i, least] of [40, 80, 100, 100].entries()) {
    const before = forked.at(-1)!
    const victim = i === 0 ? forked[1]! : before
    const ended = performance.now()
    victim.end('SIGKILL')
    await eventually('another is started', () => forked.length === 3 + i)
    const next = forked.at(-1)!
    // A timer may fire a fraction of a millisecond early.
    t.ok(next.forkedAt - ended >= least - 2, `${next.forkedAt - ended} ms, at least ${least}`)
    t.equal(next.place, 2, 'in the same place')
    if (i % 2 === 0) next.serve()
  }
  t.strictSame(ends, ['2 failed', '2 failed', '2 failed', '2 failed'])
  t.equal(lines.filter((line) => line.startsWith('error: a worker ended; another replaces it')).length, 4)
  t.strictSame(forked[0]!.said, [], 'the other one is left alone')
  const stopped = supervisor.stop(0)
  forked[0]!.end('code 0')
  await stopped
})

t.test('when a worker has lived for a while, the delay starts again', async (t) => {
  const { forked, lines, started } = supervise(t, { firstDelayMs: 10, longestDelayMs: 10_000, settledMs: 0 })
  await started()
  for (let i = 0; i < 4; i++) {
    forked.at(-1)!.end('code 1')
    await eventually('another is started', () => forked.length === 3 + i)
    forked.at(-1)!.serve()
    await Promise.resolve()
  }
  t.ok(
    lines.filter((line) => line.startsWith('error')).every((line) => line.includes('"next_in_ms":10}')),
    `${lines}`,
  )
})

t.test('a failed start is reported once, and leaves nothing behind', async (t) => {
  const { supervisor, forked, ends } = supervise(t, { firstDelayMs: 1 })
  const start = supervisor.start()
  forked[0]!.serve()
  forked[1]!.fail('the port is taken')
  await t.rejects(start, { message: 'the port is taken' })
  t.strictSame(
    forked.map(({ said }) => said),
    [['kill'], ['kill']],
  )
  t.equal(ends.length, 2)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.equal(forked.length, 2, 'none is started again')
  t.strictSame(supervisor.members(), [])
})

t.test('a worker that does not start in time is killed', async (t) => {
  const { supervisor, forked } = supervise(t, { startMs: 20 })
  const start = supervisor.start()
  forked[0]!.serve()
  await t.rejects(start)
  t.strictSame(forked[1]!.said.slice(0, 1), ['kill'])
})

t.test('in a restart no old worker leaves before all new ones serve, then one after the other', async (t) => {
  const { supervisor, forked, ends, started } = supervise(t, { leaveMs: 7 })
  await started()
  const restarted = supervisor.restart()
  t.equal(await supervisor.restart(), false, 'one at a time')
  const [a, b, c, d] = forked as [Fake, Fake, Fake, Fake]
  t.strictSame([c.place, d.place], [1, 2])
  c.serve()
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.strictSame([a.said, b.said], [[], []], 'the second of the new does not serve yet')
  d.serve()
  await eventually('the first is told to leave', () => a.said.length === 1)
  t.strictSame([a.said, b.said], [['drain 7'], []])
  a.end('code 0')
  await eventually('then the second is', () => b.said.length === 1)
  b.end('code 0')
  t.equal(await restarted, true)
  t.strictSame(ends, ['1 drained', '2 drained'])
  t.strictSame(
    supervisor.members().map(({ place, generation, state }) => ({ place, generation, state })),
    [
      { place: 1, generation: 2, state: 'serving' },
      { place: 2, generation: 2, state: 'serving' },
    ],
  )
  t.equal(forked.length, 4)
})

t.test('a restart whose workers do not start keeps the old ones, with one line', async (t) => {
  const { supervisor, forked, lines, started } = supervise(t, { firstDelayMs: 10 })
  await started()
  const restarted = supervisor.restart()
  forked[2]!.serve()
  // It ends while the other one is still starting.
  forked[2]!.end('code 1')
  await new Promise((resolve) => setTimeout(resolve, 20))
  forked[3]!.serve()
  t.equal(await restarted, false)
  t.strictSame(forked[3]!.said, ['kill'])
  t.strictSame([forked[0]!.said, forked[1]!.said], [[], []])
  t.equal(lines.filter((line) => line.startsWith('error')).length, 1)
  t.match(lines.at(-1), /^error: the new workers did not start; the old ones keep serving/)
  t.equal(supervisor.members().length, 2)
  forked[0]!.end('SIGSEGV')
  await eventually('an old one is still replaced when it ends', () => forked.length === 5)
})

t.test(
  'a worker that ends during a restart is replaced by the restart, or after it has failed',
  async (t) => {
    const { supervisor, forked, started } = supervise(t, { firstDelayMs: 5 })
    await started()
    const restarted = supervisor.restart()
    forked[0]!.end('SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, 30))
    t.equal(forked.length, 4, 'only the restart fills the place')
    forked[2]!.fail('not today')
    t.equal(await restarted, false)
    await eventually('now it is filled', () => forked.length === 5)
    t.equal(forked[4]!.place, 1)
  },
)

t.test('a stop drains all workers at once, and kills one that does not end', async (t) => {
  const { supervisor, forked, lines, started } = supervise(t, { marginMs: 10 })
  await started()
  const stopped = supervisor.stop(20)
  t.equal(supervisor.stop(0), stopped)
  t.strictSame(
    forked.map(({ said }) => said),
    [['drain 20'], ['drain 20']],
  )
  forked[0]!.end('code 0')
  await stopped
  t.strictSame(forked[1]!.said, ['drain 20', 'kill'])
  t.match(lines.at(-1), /^warn: a worker did not end in time; killing it/)
  t.equal(forked.length, 2)
})

t.test('a stop during a restart is no failure of the restart', async (t) => {
  const { supervisor, forked, lines, started } = supervise(t)
  await started()
  const restarted = supervisor.restart()
  const stopped = supervisor.stop(0)
  t.strictSame(
    forked.map(({ said }) => said),
    [['drain 0'], ['drain 0'], ['kill'], ['kill']],
  )
  for (const old of forked.slice(0, 2)) old.end('code 0')
  await stopped
  t.equal(await restarted, false)
  t.strictSame(
    lines.filter((line) => !line.startsWith('info')),
    [],
  )
  t.equal(forked.length, 4)
})
