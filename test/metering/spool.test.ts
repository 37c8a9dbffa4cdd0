// Tests src/metering/interval-file.ts src/metering/spool-owner.ts src/metering/events.ts
import { execFile } from 'node:child_process'
import { appendFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { eventsOf } from '../../src/metering/events.js'
import { openSpool } from '../../src/metering/spool.js'
import { claim, createWatch, touch } from '../../src/metering/spool-owner.js'
import { createUsageTable, type UsageTable } from '../../src/metering/usage-table.js'
import { scratchFolder } from '../support/scratch.js'

const START = 1_760_000_040_000
const MINUTE = 60_000
const PLACE = { service: 'payments', tier: 'free', route: null }
const quiet: Parameters<typeof openSpool>[0]['log'] = { warn() {}, info() {} }

interface Opened {
  readonly size?: number
  readonly now?: () => number
  readonly log?: typeof quiet
}

const open = (path: string, { size = 1e9, now = () => START, log = quiet }: Opened = {}) =>
  openSpool({ path, size, source: 'test', columns: ['requests'], shown: ['requests'], log, now })

/** Fills a table: so many requests by consumer. */
function tableWith(used: Readonly<Record<string, number>>, from = START): UsageTable {
  const table = createUsageTable(from, 0)
  for (const [consumer, requests] of Object.entries(used))
    use(table, table.add(PLACE, consumer, null), requests)
  return table
}

function use(table: UsageTable, index: number, requests: number): void {
  table.countsOf(index)[table.startOf(index)]! += requests
}

/** Takes all intervals that wait, as the sender does. Returns the requests by consumer, with the ids of the events. */
async function takeAll(spool: Awaited<ReturnType<typeof open>>) {
  const used: Record<string, number> = {}
  const ids: string[] = []
  for (let found = await spool.next(); found !== undefined; found = await spool.next()) {
    for (const { id, subject, data } of eventsOf(found.interval)) {
      ids.push(id)
      used[subject] = (used[subject] ?? 0) + Number(data.requests)
    }
    await spool.sent(found.stem)
  }
  return { used, ids }
}

/** Leaves a spool as a process does that was killed. */
async function leave({ folder, close }: Awaited<ReturnType<typeof open>>): Promise<void> {
  await close()
  const file = join(folder, 'owner.json')
  await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, 'utf8')), start: 'gone' }))
}

const journalIn = async (folder: string) =>
  join(folder, (await readdir(folder)).find((name) => name.endsWith('.journal'))!)

t.test('an interval that has ended is sent once, oldest first, and kept to be sent again', async (t) => {
  const spool = await open(scratchFolder(t, 'spool-'))
  await spool.save(tableWith({ a: 1 }))
  await spool.end(tableWith({ a: 1, b: 2 }))
  await spool.end(tableWith({ a: 4 }, START + MINUTE))
  t.match(spool.read(), { waiting: 2, oldest: START })
  const { used, ids } = await takeAll(spool)
  t.strictSame(used, { a: 5, b: 2 })
  t.equal(new Set(ids).size, 3)
  t.match(spool.read(), { waiting: 0 })
  t.equal(await spool.resend(START, START + MINUTE), 1)
  const again = await takeAll(spool)
  t.strictSame(again, { used: { a: 1, b: 2 }, ids: ids.slice(0, 2) }, 'with the same ids')
  t.equal(await spool.resend(0, START), 0)
})

t.test('what a killed process saved is taken over, and a torn line is skipped', async (t) => {
  const path = scratchFolder(t, 'spool-')
  const killed = await open(path)
  const table = tableWith({ a: 1 })
  await killed.save(table)
  use(table, 0, 1)
  await killed.save(table)
  use(table, 0, 1)
  await killed.save(table)
  const journal = await journalIn(killed.folder)
  const whole = await readFile(journal)
  await writeFile(journal, whole.subarray(0, whole.length - 5))
  await appendFile(journal, '\n00000000 {"at":1,"groups":[[0,"a",null,"payments","free",null,99]]}\n1234')

  const next = await open(path)
  await next.adopt()
  t.match(next.read(), { waiting: 0 }, 'not while the owner lives')
  await leave(killed)
  await next.adopt()
  const { used, ids } = await takeAll(next)
  t.strictSame(used, { a: 2 })
  t.match(ids, [/^[0-9a-f]{16}-0-0$/])
  t.strictSame((await readdir(path)).length, 1, 'nothing of the dead process is left')
})

t.test('an interval that a dead process was sending keeps its ids, also over a second death', async (t) => {
  const path = scratchFolder(t, 'spool-')
  const first = await open(path)
  await first.end(tableWith({ a: 1 }))
  const sending = await first.next()
  const [event] = eventsOf(sending!.interval)
  await leave(first)
  const second = await open(path)
  // It died after it had taken the folder, and before it had moved the files.
  await rename(first.folder, join(second.folder, `adopted-${first.folder.slice(-16)}`))
  await leave(second)
  const third = await open(path)
  await third.adopt()
  t.strictSame(await takeAll(third), { used: { a: 1 }, ids: [event!.id] })
})

t.test(
  'a process that dies between the end of an interval and the removal of its journal counts once',
  async (t) => {
    const path = scratchFolder(t, 'spool-')
    const dead = await open(path)
    const table = tableWith({ a: 3 })
    await dead.save(table)
    const journal = await journalIn(dead.folder)
    const text = await readFile(journal)
    await dead.end(table)
    await writeFile(journal, text)
    await leave(dead)
    const next = await open(path)
    await next.adopt()
    t.strictSame((await takeAll(next)).used, { a: 3 })
  },
)

t.test('while the folder cannot be written, counts stay in memory and are saved later', async (t) => {
  const path = scratchFolder(t, 'spool-')
  const warnings: string[] = []
  const log = { ...quiet, warn: (_: object, message: string) => warnings.push(message) }
  const spool = await open(path, { log })
  const table = tableWith({ a: 1 })
  t.ok(await spool.save(table))
  await rm(spool.folder, { recursive: true })
  use(table, 0, 1)
  t.ok(await spool.save(table), 'the open file still takes it; nothing was lost yet')
  use(table, 0, 1)
  t.notOk(await spool.end(table))
  t.notOk(await spool.end(table))
  t.match(spool.read(), { unsavedSince: START, waiting: 0 })
  t.match(warnings, [/^usage cannot be saved: it stays in memory/])
  t.equal(warnings.length, 1)
  await mkdir(spool.folder)
  t.ok(await spool.end(table))
  t.match(spool.read(), { unsavedSince: undefined })
  t.strictSame((await takeAll(spool)).used, { a: 3 })
})

t.test('when the spool is half full, hours that were never sent are merged, and totals stay', async (t) => {
  let now = START
  const spool = await open(scratchFolder(t, 'spool-'), { size: 400_000, now: () => now })
  const hour = Math.ceil(START / 3_600_000) * 3_600_000
  const total: Record<string, number> = {}
  for (let i = 0; i < 100; i++) {
    now = hour + i * MINUTE
    await spool.end(tableWith({ a: i, [`c${i % 3}`]: 1 }, now))
    total.a = (total.a ?? 0) + i
    total[`c${i % 3}`] = (total[`c${i % 3}`] ?? 0) + 1
    if (i === 0) t.ok(await spool.next(), 'the first was tried: the receiver may have it')
  }
  t.equal(spool.read().waiting, 100)
  t.ok(await spool.makeRoom())
  t.equal(
    spool.read().waiting,
    42,
    'the one that was tried, one hour, and the 40 minutes of an hour that is not over',
  )
  t.ok(spool.read().bytes < 200_000)
  t.strictSame((await takeAll(spool)).used, total)
})

t.test('a spool that is full says so, and gives up what was sent before', async (t) => {
  const spool = await open(scratchFolder(t, 'spool-'), { size: 32_768 })
  for (let i = 0; i < 5; i++) await spool.end(tableWith({ a: 1 }, START + i * MINUTE))
  await takeAll(spool)
  t.ok(spool.read().bytes > 8192)
  t.ok(await spool.makeRoom())
  t.ok(spool.read().bytes <= 8192)
  for (let i = 10; spool.read().bytes < 40_000; i++) await spool.end(tableWith({ a: 1 }, START + i * MINUTE))
  t.notOk(await spool.makeRoom())
})

t.test('hours whose intervals count different columns are merged by what they count', async (t) => {
  const path = scratchFolder(t, 'spool-')
  const hour = Math.ceil(START / 3_600_000) * 3_600_000
  const before = await open(path)
  await before.end(tableWith({ a: 1 }, hour))
  await leave(before)
  const now = () => hour + 3_600_000
  const spool = await openSpool({
    path,
    size: 30_000,
    source: 'test',
    columns: ['requests', 'requests_2xx'],
    shown: ['requests'],
    log: quiet,
    now,
  })
  await spool.adopt()
  for (let i = 1; i < 10; i++) await spool.end(tableWith({ a: i }, hour + i * MINUTE))
  t.ok(await spool.makeRoom())
  t.equal(spool.read().waiting, 2)
  t.strictSame((await takeAll(spool)).used, { a: 46 })
})

t.test('parts of a merge that was interrupted count once, though the disk is full meanwhile', async (t) => {
  const path = scratchFolder(t, 'spool-')
  const hour = Math.ceil(START / 3_600_000) * 3_600_000
  const now = () => hour + 2 * 3_600_000
  const dead = await open(path, { size: 10_000, now })
  const parts = new Map<string, Buffer>()
  for (let i = 0; i < 2; i++) await dead.end(tableWith({ a: 1 }, hour + i * MINUTE))
  for (const name of await readdir(dead.folder))
    if (name.endsWith('.usage')) parts.set(name, await readFile(join(dead.folder, name)))
  await dead.makeRoom()
  t.equal(dead.read().waiting, 1)
  for (const [name, bytes] of parts) await writeFile(join(dead.folder, name), bytes)
  await dead.save(tableWith({ a: 5 }, hour + 10 * MINUTE))
  const journal = await journalIn(dead.folder)
  await leave(dead)
  const warnings: string[] = []
  const log = { ...quiet, warn: (_: object, message: string) => warnings.push(message) }
  const next = await open(path, { now, log })
  // A folder of the name of the file that it has to write.
  const blocker = join(next.folder, journal.slice(dead.folder.length + 1).replace(/journal$/, 'new'))
  await mkdir(blocker)
  await next.adopt()
  await next.adopt()
  t.match(warnings, [/^usage that an ended process has left cannot be taken over/])
  t.match(next.read(), { unsavedSince: undefined })
  t.strictSame((await takeAll(next)).used, { a: 2 })
  await rm(blocker, { recursive: true })
  await next.adopt()
  t.strictSame((await takeAll(next)).used, { a: 5 }, 'what could not be taken over is taken over later')
  t.strictSame(
    (await readdir(next.folder)).filter((name) => /adopted|journal/.test(name)),
    [],
  )
})

t.test('a process whose folder was taken goes on with the same ids', async (t) => {
  const path = scratchFolder(t, 'spool-')
  const stopped = await open(path)
  const table = tableWith({ a: 1 })
  await stopped.save(table)
  await rename(stopped.folder, join(path, 'elsewhere'))
  await stopped.adopt()
  use(table, 0, 1)
  t.ok(await stopped.save(table))
  t.match(await readFile(await journalIn(stopped.folder), 'utf8'), /"a",null,"payments","free",null,2,/)
  t.ok(await stopped.end(table))
  t.match((await takeAll(stopped)).ids, [/-0-0$/])
})

t.test('a line that fits the disk only in part is not taken for saved', async (t) => {
  // The first save fits the limit, and a part of the second.
  const script = `
    import { openSpool } from './dist/metering/spool.js'
    import { createUsageTable } from './dist/metering/usage-table.js'
    const log = { warn() {}, info() {} }
    const spool = await openSpool({ path: process.argv[1], size: 1e9, source: 'test', columns: ['requests'], shown: [], log })
    const table = createUsageTable(${START}, 0)
    const add = () => table.countsOf(table.add({ service: 's', tier: 't', route: null }, 'x'.repeat(200), null))
    add()
    const saved = [await spool.save(table)]
    for (let i = 0; i < 100; i++) add()
    saved.push(await spool.save(table))
    console.log(saved.join())`
  const command = 'ulimit -f 16; exec "$0" --input-type=module -e "$1" "$2"'
  const path = scratchFolder(t, 'spool-')
  const { stdout } = await promisify(execFile)('sh', ['-c', command, process.execPath, script, path])
  t.equal(stdout, 'true,false\n')
})

t.test('a journal that is mostly out of date is written anew', async (t) => {
  const spool = await open(scratchFolder(t, 'spool-'))
  const used = Object.fromEntries(
    Array.from({ length: 2000 }, (_, i) => [`consumer-with-a-long-name-${i}`, 1]),
  )
  const table = tableWith(used)
  let most = 0
  for (let i = 0; i < 120; i++) {
    await spool.save(table)
    for (let k = 0; k < 2000; k++) use(table, k, 1)
    most = Math.max(most, spool.read().bytes)
  }
  t.ok(most > 8e6 && most < 9e6, String(most))
  await spool.end(table)
  t.ok(spool.read().bytes < 300_000)
})

t.test('a folder that cannot be made is an error that says what to do', async (t) => {
  await t.rejects(open('/dev/null/usage'), {
    message:
      'metering.spool.path: cannot write to /dev/null/usage (ENOTDIR); make the folder, or let this user write to it',
  })
})

t.test('the owner of a folder is known by its process, its start and its machine', async (t) => {
  const folder = scratchFolder(t, 'owner-')
  const isLeft = createWatch()
  const minutes = (n: number) => [folder, Date.now() + n * MINUTE, performance.now() + n * MINUTE] as const
  t.notOk(await isLeft(folder), 'it has just been made')
  t.ok(await isLeft(...minutes(11)), 'its process ended before it could write')
  await claim(folder)
  t.notOk(await isLeft(...minutes(1000)), 'this process lives')
  const file = join(folder, 'owner.json')
  const own = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(file, JSON.stringify({ ...own, start: '1' }))
  t.ok(await isLeft(folder), 'another process has its pid now')
  await writeFile(file, JSON.stringify({ ...own, place: 'another container', start: '1' }))
  t.notOk(await isLeft(folder), 'its pid means nothing here')
  t.notOk(await isLeft(folder, Date.now() + 60 * MINUTE), 'only the clock has jumped')
  await touch(folder)
  t.notOk(await isLeft(...minutes(11)), 'it was touched since')
  t.ok(await isLeft(...minutes(14)), 'it was not touched for ten minutes')
})

t.test(
  'whatever the order of saves, ends, deaths and deliveries, a receiver without duplicates counts exactly',
  async (t) => {
    const step = fc.constantFrom('use', 'save', 'end', 'die', 'try', 'deliver', 'resend', 'room')
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => play(t, steps)),
      { numRuns: 60 },
    )
  },
)

/** Plays some steps. Returns true if the receiver has what was saved, and never more than was used. */
async function play(t: Test, steps: readonly string[]): Promise<boolean> {
  const path = scratchFolder(t, 'spool-')
  let now = START
  let spool = await open(path, { size: 50_000, now: () => now })
  let table = createUsageTable(now, 0)
  /** Requests that a crash may lose. */
  let unsaved = 0
  let lost = 0
  let used = 0
  const received = new Map<string, number>()
  const deliver = async (all: boolean) => {
    const found = await spool.next()
    if (found === undefined) return
    for (const { id, data } of eventsOf(found.interval)) {
      if (received.has(id) && received.get(id) !== data.requests)
        throw new Error('an id stands for two events')
      received.set(id, Number(data.requests))
    }
    if (all) await spool.sent(found.stem)
  }
  for (const step of steps) {
    now += 10 * MINUTE
    if (step === 'use') {
      if (table.size() === 0) table.add(PLACE, 'a', null)
      use(table, 0, 1)
      used++
      unsaved++
    } else if (step === 'save') {
      await spool.save(table)
      unsaved = 0
    } else if (step === 'end') {
      await spool.end(table)
      table = createUsageTable(now, 0)
      unsaved = 0
    } else if (step === 'die') {
      await leave(spool)
      spool = await open(path, { size: 50_000, now: () => now })
      await spool.adopt()
      table = createUsageTable(now, 0)
      lost += unsaved
      unsaved = 0
    } else if (step === 'resend') await spool.resend(0, now)
    else if (step === 'room') await spool.makeRoom()
    else await deliver(step === 'deliver')
  }
  await spool.end(table)
  while (spool.read().waiting > 0) await deliver(true)
  return [...received.values()].reduce((sum, one) => sum + one, 0) === used - lost
}
