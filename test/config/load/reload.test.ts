// Tests src/config/load/watch.ts
import {
  copyFile,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  symlink,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import {
  type ConfigSource,
  InvalidConfig,
  openConfig,
  type ReloadEvent,
} from '../../../src/config/load/reload.js'
import { eventually } from '../../support/eventually.js'

function config(amount: number, extra = ''): string {
  return `${extra}
tiers: [free]
services: { a: { upstreams: [http://127.0.0.1:9001], limits: { free: ${amount}/min } } }
routes: [{ path: /*, service: a }]
`
}

interface Watched {
  readonly source: ConfigSource
  readonly events: ReloadEvent[]
  /** Resolves with the next reload that the test has not seen. */
  next(): Promise<ReloadEvent>
  amount(): number | undefined
}

async function watched(
  t: Test,
  file: string,
  options: { pollMs?: number; stableMs?: number } = {},
): Promise<Watched> {
  const events: ReloadEvent[] = []
  let taken = 0
  const source = await openConfig({
    file,
    env: { TOKEN: 'the-token-of-the-admin' },
    // Long, so that tests depend on directory events, unless a test says otherwise.
    pollMs: 60_000,
    stableMs: 50,
    ...options,
    onReload: (event) => events.push(event),
  })
  t.teardown(() => source.close())
  return {
    source,
    events,
    async next() {
      await eventually('a reload', () => events.length > taken)
      return events[taken++]!
    },
    amount: () => source.current().services[0]?.policies[0]?.limits[0]?.amount,
  }
}

// Each test has a folder of its own, and mostly waits.
t.jobs = 8

type Writer = (file: string, text: string, dir: string) => Promise<void>

const ways: Record<string, Writer> = {
  'written in place': (file, text) => writeFile(file, text),
  'written beside and renamed': async (file, text) => {
    await writeFile(`${file}.tmp`, text)
    await rename(`${file}.tmp`, file)
  },
  'saved by vim: moved away, written anew, the backup removed': async (file, text) => {
    await rename(file, `${file}~`)
    await writeFile(file, text)
    await unlink(`${file}~`)
  },
  'copied over by cp': async (file, text, dir) => {
    await writeFile(join(dir, 'other', 'new.yaml'), text)
    await copyFile(join(dir, 'other', 'new.yaml'), file)
  },
  'moved over from another directory': async (file, text, dir) => {
    await writeFile(join(dir, 'other', 'new.yaml'), text)
    await rename(join(dir, 'other', 'new.yaml'), file)
  },
  'removed and written again': async (file, text) => {
    await unlink(file)
    await sleep(20)
    await writeFile(file, text)
  },
  'written in pieces with pauses shorter than it has to rest': async (file, text) => {
    const handle = await open(file, 'w')
    for (let i = 0; i < text.length; i += 30) {
      await handle.write(text.slice(i, i + 30))
      await sleep(15)
    }
    await handle.close()
  },
}

for (const [way, write] of Object.entries(ways)) {
  t.test(`a file ${way} is applied once`, async (t) => {
    const dir = t.testdir({ etc: { 'tidegate.yaml': config(10) }, other: {} })
    const file = join(dir, 'etc', 'tidegate.yaml')
    const watch = await watched(t, file, { stableMs: 100 })
    for (const amount of [20, 30]) {
      await write(file, config(amount), dir)
      const event = await watch.next()
      t.match(event, { result: 'applied', trigger: 'file', messages: [] })
      t.equal(watch.amount(), amount)
    }
    t.equal(watch.events.length, 2)
  })
}

t.test('a Kubernetes ConfigMap, which swaps the link ..data, is applied', async (t) => {
  const dir = t.testdir({ '..2026_1': { 'tidegate.yaml': config(10) } })
  await symlink('..2026_1', join(dir, '..data'))
  await symlink(join('..data', 'tidegate.yaml'), join(dir, 'tidegate.yaml'))
  const watch = await watched(t, join(dir, 'tidegate.yaml'))
  for (const [amount, name] of [
    [20, '..2026_2'],
    [30, '..2026_3'],
  ] as const) {
    await mkdir(join(dir, name))
    await writeFile(join(dir, name, 'tidegate.yaml'), config(amount))
    await symlink(name, join(dir, '..data_tmp'))
    await rename(join(dir, '..data_tmp'), join(dir, '..data'))
    t.match(await watch.next(), { result: 'applied' })
    t.equal(watch.amount(), amount)
  }
})

t.test('a change without an event is found by polling', async (t) => {
  const dir = t.testdir({ etc: {}, elsewhere: { 'real.yaml': config(10) } })
  await symlink(join(dir, 'elsewhere', 'real.yaml'), join(dir, 'etc', 'tidegate.yaml'))
  const watch = await watched(t, join(dir, 'etc', 'tidegate.yaml'), { pollMs: 100 })
  await writeFile(join(dir, 'elsewhere', 'real.yaml'), config(20))
  t.match(await watch.next(), { result: 'applied' })
  t.equal(watch.amount(), 20)
})

t.test('a directory that is removed and created again is found by polling', async (t) => {
  const dir = t.testdir({ etc: { 'tidegate.yaml': config(10) } })
  const watch = await watched(t, join(dir, 'etc', 'tidegate.yaml'), { pollMs: 100 })
  await rm(join(dir, 'etc'), { recursive: true })
  t.match(await watch.next(), { result: 'rejected', messages: [/there is no such file/] })
  t.equal(watch.amount(), 10, 'the last good one goes on')
  await mkdir(join(dir, 'etc'))
  await writeFile(join(dir, 'etc', 'tidegate.yaml'), config(20))
  t.match(await watch.next(), { result: 'applied' })
  t.equal(watch.amount(), 20)
})

t.test('an invalid file changes nothing, and the next valid one is applied', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file)
  const before = watch.source.current()
  const bad: [text: string | Buffer, message: RegExp][] = [
    ['', /tidegate\.yaml:1:1: the file is empty/],
    [config(20).slice(0, 80), /tidegate\.yaml:\d+:\d+: /],
    [config(20).replace('tiers', 'tires'), /unknown key "tires"; did you mean "tiers"\?/],
    [Buffer.from([0x61, 0x3a, 0x20, 0xff, 0xfe]), /the file is not UTF-8 text/],
    [Buffer.alloc(2 * 1024 * 1024, '#'), /larger than 1 MiB/],
  ]
  for (const [text, message] of bad) {
    await writeFile(file, text)
    t.match(await watch.next(), { result: 'rejected', repaired: false, trigger: 'file' })
    t.equal(watch.source.current(), before)
    t.match(watch.source.status().lastError?.messages.join('\n'), message)
    t.match(watch.source.status().lastError?.at, /^\d{4}-\d\d-\d\dT/)
  }
  await rm(file)
  await mkdir(file)
  t.match(await watch.next(), { result: 'rejected', messages: [/this is a directory/] })
  await rm(file, { recursive: true })
  await writeFile(file, config(20))
  // The state in between may be seen, or not.
  let event = await watch.next()
  while (event.result !== 'applied') event = await watch.next()
  t.equal(watch.amount(), 20)
  t.equal(watch.source.status().lastError, null)
})

t.test('a file that is restored is unchanged, and no error any more', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file)
  const before = watch.source.current()
  await writeFile(file, 'nonsense: [')
  t.match(await watch.next(), { result: 'rejected' })
  await writeFile(file, config(10))
  t.match(await watch.next(), { result: 'unchanged', repaired: true, messages: [] })
  t.equal(watch.source.status().lastError, null)
  await utimes(file, new Date(), new Date(0))
  t.match(await watch.next(), { result: 'unchanged' })
  await writeFile(file, `# only a comment\n${config(10)}`)
  t.match(await watch.next(), { result: 'unchanged' })
  t.equal(watch.source.current(), before)
})

t.test('after many changes in a row the last one is in force', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file, { stableMs: 300 })
  for (let i = 1; i <= 50; i++) {
    await writeFile(file, config(100 + i))
    await sleep(4)
  }
  while (watch.amount() !== 150) await watch.next()
  t.ok(watch.events.length < 10, `${watch.events.length} reloads for 50 changes`)
})

t.test('a requested reload reads the file at once, and returns its outcome', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file, { stableMs: 5000 })
  t.same(await watch.source.reload('admin'), { result: 'unchanged', messages: [] })
  await writeFile(file, config(20))
  t.match(await watch.source.reload('signal'), { result: 'applied' })
  t.equal(watch.amount(), 20)
  await writeFile(file, 'x: 1')
  t.match(await watch.source.reload('admin'), { result: 'rejected', messages: [/unknown key "x"/] })
  t.same(
    watch.events.map(({ trigger, result }) => `${trigger} ${result}`),
    ['admin unchanged', 'signal applied', 'admin rejected'],
  )
  const [, applied] = watch.events
  t.not(applied?.snapshot, applied?.previous)
  t.equal(applied?.previous.services[0]?.policies[0]?.limits[0]?.amount, 10)
})

t.test('a hundred concurrent reloads are few reads, and all get the newest file', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file, { stableMs: 5000 })
  const first = watch.source.reload('admin')
  await writeFile(file, config(20))
  const outcomes = await Promise.all(Array.from({ length: 100 }, () => watch.source.reload('admin')))
  await first
  t.equal(watch.amount(), 20)
  t.ok(outcomes.every(({ result }) => result !== 'rejected'))
  t.ok(watch.events.length <= 3, `${watch.events.length} times read`)
})

t.test('a change that needs a restart waits for it, and the rest is applied', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file)
  const extra =
    'listen: 127.0.0.1:9999\nserver: { keep_alive: 5s }\nstore: { redis: "redis://:s3cret@127.0.0.1:1" }'
  await writeFile(file, config(20, extra))
  const waiting = [
    'listen changed: takes effect at the next start',
    'store.redis changed: takes effect at the next start',
    'server changed: takes effect at the next start',
  ]
  t.same((await watch.next()).messages, waiting)
  t.equal(watch.amount(), 20)
  t.same([...watch.source.status().changed].sort(), [
    'listen: 0.0.0.0:8080 -> 127.0.0.1:9999',
    'server.keep_alive: 72s -> 5s',
    'services.a.limits.free: 10/min -> 20/min',
    'store.redis: added (***)',
  ])
  await writeFile(file, config(30, extra))
  t.match(await watch.next(), { result: 'applied', messages: waiting })
  t.same(watch.source.status().changed, ['services.a.limits.free: 20/min -> 30/min'])
  t.same(watch.source.status().warnings, waiting, 'it is said for as long as it is so')
  await writeFile(file, config(30))
  t.match(await watch.next(), { result: 'applied', messages: [] })
})

t.test('the status has file, hash, load time and warnings', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10, 'trusted_proxies: [0.0.0.0/0]') })
  const file = join(dir, 'tidegate.yaml')
  const source = await openConfig({ file, env: {}, now: () => 1_790_000_000_000 })
  t.teardown(() => source.close())
  const status = source.status()
  t.match(status, {
    file,
    hash: /^[0-9a-f]{12}$/,
    loadedAt: new Date(1_790_000_000_000).toISOString(),
    lastError: null,
    changed: [],
    warnings: [/lets every client choose its own address/],
  })
  t.equal(status.hash, source.current().hash)
  t.equal(source.current().loadedAt, 1_790_000_000_000)
})

t.test('a first load that fails lists every error, and watches nothing', async (t) => {
  const dir = t.testdir({ 'bad.yaml': config(10).replace('tiers', 'tires').replace('/min', '/mn') })
  const failure = await openConfig({ file: join(dir, 'bad.yaml'), env: {} }).catch((error: unknown) => error)
  if (!(failure instanceof InvalidConfig)) throw new Error('it loaded')
  t.match(failure.messages, [/bad\.yaml:2:1: unknown key "tires"/, /bad\.yaml:3:.*"10\/mn" is not a limit/])
  t.equal(failure.message, failure.messages.join('\n'))
  const missing = openConfig({ file: join(dir, 'missing.yaml'), env: {} })
  await t.rejects(missing, { message: /missing\.yaml:1:1: there is no such file/ })
  await t.rejects(openConfig({ file: dir, env: {} }), { message: /this is a directory/ })
})

t.test('close waits for the reload that is under way', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file, { stableMs: 5000 })
  await writeFile(file, config(20))
  void watch.source.reload('admin')
  await watch.source.close()
  t.match(watch.events, [{ trigger: 'admin', result: 'applied' }])
  t.equal(watch.amount(), 20)
})

t.test('after close nothing is reloaded', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': config(10) })
  const file = join(dir, 'tidegate.yaml')
  const watch = await watched(t, file, { pollMs: 20, stableMs: 10 })
  await watch.source.close()
  await writeFile(file, config(20))
  await sleep(200)
  t.same(watch.events, [])
  t.match(await readFile(file, 'utf8'), /20\/min/)
})
