// Runs alone: it replaces file operations and timers of the process.
import { AsyncLocalStorage } from 'node:async_hooks'
import files, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import timers from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { UsageEvent } from '../../src/metering/events.js'
import { openMetering } from '../../src/metering/metering.js'
import { exampleRecord, exampleSnapshot } from '../support/gateway/snapshot.js'
import { scratchFolder } from '../support/scratch.js'

/** Time for processes that are killed and followed by another that is killed, in ms. */
const PAIRS_MS = 30_000
/** Operations with which a process begins. */
const TAKING_OVER = 30
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const { readdir, readFile, rm, writeFile, mkdir } = files
const immediate = timers.setImmediate
const never = () => new Promise<never>(() => {})

/** A process that meters, and is killed: one of its file operations and all that follow never begin, and it sends no more. */
interface Life {
  /** File operations so far, in order. */
  readonly operations: string[]
  readonly killAt: number
  /** The operation at which it is killed, if it writes, writes a part. */
  readonly torn: boolean
  isDead: boolean
  /** Files that the system closes when the process is dead. */
  readonly handles: FileHandle[]
  readonly die: () => void
}

const lives = new AsyncLocalStorage<Life>()

/** Marks the operations that may be done in part. */
const IN_PART = ', in part'

type Operation = (this: unknown, ...args: unknown[]) => Promise<unknown>

/**
 * Replaces a file operation by one that a killed process does not begin.
 *
 * @param half what an operation that writes has done when it is killed half-way
 */
function killable(of: object, name: string, half?: Operation): void {
  const operations = of as Record<string, Operation>
  const real = operations[name]!
  operations[name] = async function (...args) {
    const life = lives.getStore()
    if (life === undefined) return real.apply(this, args)
    if (!life.isDead && life.operations.length === life.killAt) {
      life.isDead = true
      if (life.torn) await half?.apply(this, args)
      await Promise.allSettled(life.handles.map((handle) => handle.close()))
      life.die()
    }
    if (life.isDead) return never()
    life.operations.push(half === undefined ? name : `${name}${IN_PART}`)
    const result = await real.apply(this, args)
    if (name === 'open') life.handles.push(result as FileHandle)
    return result
  }
}

const halfOf = (text: unknown) => Buffer.from(text as string).subarray(0, String(text).length / 2)

async function makeKillable(t: Test): Promise<void> {
  const handle = await files.open(join(scratchFolder(t, 'kills-'), 'file'), 'w')
  const handles = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  // What was written survives the process. A sync would take most of the time.
  handles.sync = handles.datasync = async () => {}
  const { appendFile } = handles
  killable(handles, 'appendFile', function (text) {
    return appendFile.call(this as FileHandle, halfOf(text))
  })
  killable(handles, 'sync')
  killable(handles, 'datasync')
  for (const name of ['mkdir', 'open', 'readdir', 'readFile', 'rename', 'rm', 'stat', 'unlink', 'utimes'])
    killable(files, name)
  killable(files, 'writeFile', (path, text) => writeFile(path as string, halfOf(text)))
  const wait = timers.setTimeout
  timers.setTimeout = (async (ms: number, ...more: []) => {
    const life = lives.getStore()
    if (life === undefined) return wait(ms, ...more)
    await immediate()
    return life.isDead ? never() : undefined
  }) as typeof wait
  syncBuiltinESMExports()
}

const snapshot = exampleSnapshot()
const upstream = snapshot.services[0]!.upstreams[0]

/** What outlives processes: the clock, the disk, the receiver, and the counts of requests. */
function createWorld(path: string) {
  return {
    path,
    now: 1_760_000_040_000,
    received: new Map<string, UsageEvent>(),
    used: 0,
    saved: 0,
    /** Requests that may be lost: those that dead processes had not saved. */
    mayBeLost: 0,
  }
}

type World = ReturnType<typeof createWorld>

async function open(world: World) {
  let isUp = true
  const until = async (isDone: () => boolean) => {
    while (!isDone()) {
      await immediate()
      if (lives.getStore()!.isDead) await never()
    }
  }
  const metering = await openMetering({
    settings: {
      every: MINUTE,
      spool: { path: world.path, size: 40_960 },
      to: { file: { path: '', size: 1 } },
      by: ['consumer'],
      count: ['requests'],
      addresses: false,
      max_groups: 1000,
      source: 'test',
    },
    log: { warn() {}, info() {} },
    now: () => world.now,
    receiver: {
      async send(events) {
        await until(() => isUp)
        if (lives.getStore()!.isDead) await never()
        for (const event of events) {
          const known = world.received.get(event.id)
          if (known !== undefined && JSON.stringify(known) !== JSON.stringify(event))
            throw new Error('an id stands for two events')
          world.received.set(event.id, event)
        }
      },
      close: async () => {},
    },
  })
  return {
    metering,
    use(consumer: string) {
      metering.record(exampleRecord(snapshot, { upstream, consumer }))
      world.used++
    },
    async save(later = 0) {
      world.now += later
      const { used } = world
      await metering.tick()
      world.saved = used
    },
    setUp: (up: boolean) => {
      isUp = up
    },
    sent: () => until(() => metering.state().waiting === 0),
  }
}

/** Does everything that a process may do with its files. */
async function work(world: World): Promise<void> {
  const { metering, use, save, setUp, sent } = await open(world)
  use('a')
  await save()
  use('a')
  use('b')
  await save()
  use('a')
  await save(MINUTE)
  await sent()
  setUp(false)
  for (let i = 0; i < 8; i++) {
    use(`c${i % 3}`)
    await save(MINUTE)
  }
  use('a')
  // The intervals of the hour that is over are merged: the spool is half full.
  await save(HOUR)
  use('b')
  await save(MINUTE)
  setUp(true)
  await sent()
  use('a')
  await metering.resend(0, world.now)
  await sent()
  await save()
  use('b')
  await metering.close()
  world.saved = world.used
}

/** Starts, takes over what others have left, and ends. */
async function clean(world: World): Promise<void> {
  const { metering, sent } = await open(world)
  await sent()
  await metering.close()
}

/** Lives until the end or until it is killed. Resolves with the operations. */
async function live(world: World, task: typeof work, killAt = Infinity, torn = false): Promise<string[]> {
  const operations: string[] = []
  await new Promise<void>((resolve, reject) => {
    const life: Life = { operations, killAt, torn, isDead: false, handles: [], die: resolve }
    lives.run(life, () => task(world)).then(resolve, reject)
  })
  world.mayBeLost += world.used - world.saved
  world.saved = world.used
  // Its process is gone.
  for (const name of await readdir(world.path)) {
    const file = join(world.path, name, 'owner.json')
    const owner = await readFile(file, 'utf8')
      .then(JSON.parse)
      .catch(() => undefined)
    if (owner !== undefined) await writeFile(file, JSON.stringify({ ...owner, start: 'gone' }))
  }
  return operations
}

t.test(
  'a process that is killed before any of its file operations loses only what it had not saved',
  async (t) => {
    await makeKillable(t)
    const setInterval = globalThis.setInterval
    t.teardown(() => {
      globalThis.setInterval = setInterval
    })
    // A process saves when the test says so.
    globalThis.setInterval = ((...args: Parameters<typeof setInterval>) => {
      const timer = setInterval(...args)
      if (lives.getStore() !== undefined) clearInterval(timer)
      return timer
    }) as typeof setInterval

    let runs = 0
    /** Lives so often, each killed at an operation, and then once to the end. Says what is wrong, if anything is. */
    async function play(kills: readonly { readonly at: number; readonly torn: boolean }[]): Promise<void> {
      const path = join(scratch, String(runs++))
      await mkdir(path)
      const world = createWorld(path)
      const seen: string[] = []
      for (const { at, torn } of kills) seen.push((await live(world, work, at, torn)).at(-1) ?? 'nothing')
      await live(world, clean)
      const counted = [...world.received.values()].reduce((sum, { data }) => sum + Number(data.requests), 0)
      const left = (await readdir(path, { recursive: true })).filter((name) =>
        /\.(usage|trying|journal)$/.test(name),
      )
      if (counted > world.used || counted < world.used - world.mayBeLost || left.length > 0)
        t.fail(`killed at ${JSON.stringify(kills)}, after ${seen.join(' and ')}`, {
          counted,
          used: world.used,
          mayBeLost: world.mayBeLost,
          left,
        })
      await rm(path, { recursive: true })
    }

    const scratch = scratchFolder(t, 'kills-')
    const whole = join(scratch, 'whole')
    await mkdir(whole)
    const world = createWorld(whole)
    const operations = await live(world, work)
    t.comment(`${operations.length} operations`)
    for (const [at, name] of operations.entries()) {
      await play([{ at, torn: false }])
      if (name.endsWith('in part')) await play([{ at, torn: true }])
    }
    t.comment(`${runs} processes were killed`)
    const end = performance.now() + PAIRS_MS
    const within = (most: number) => ({ at: Math.floor(Math.random() * most), torn: Math.random() < 0.5 })
    // Half of the second ones are killed while they take over what the first has left.
    while (performance.now() < end)
      await play([within(operations.length), within(Math.random() < 0.5 ? TAKING_OVER : operations.length)])
    t.comment(`${runs} runs, with pairs`)
  },
)
