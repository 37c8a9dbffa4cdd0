import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readFileSync, readSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { createLineSink } from '../../../src/telemetry/logs/line-sink.js'
import { type Output, openOutput } from '../../../src/telemetry/logs/output.js'

const line = (i: number) => `{"line":${i}}\n`
const read = (path: string) => readFileSync(path, 'utf8')

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

t.test('writes a single line by itself, and many lines in order and in few pieces', async (t) => {
  const path = join(t.testdir(), 'access.log')
  const file = openOutput(path)
  let writes = 0
  const sink = createLineSink({
    ...file,
    write(...args) {
      writes++
      file.write(...args)
    },
  })
  sink.write(line(0))
  await until(() => read(path) !== '')
  t.equal(read(path), line(0))
  let expected = line(0)
  for (let i = 1; i <= 20_000; i++) {
    sink.write(line(i))
    expected += line(i)
  }
  await sink.flush()
  t.equal(read(path), expected)
  t.ok(writes < 10, `${writes} writes`)
  t.equal(sink.dropped(), 0)
  await sink.close()
})

t.test('appends to an existing file', async (t) => {
  const path = join(t.testdir({ log: line(1) }), 'log')
  const sink = createLineSink(openOutput(path))
  sink.write(line(2))
  await sink.close()
  t.equal(read(path), line(1) + line(2))
})

t.test('goes on in a new file after a rotation without losing a line', async (t) => {
  const dir = t.testdir()
  const path = join(dir, 'log')
  const sink = createLineSink(openOutput(path))
  sink.write(line(1))
  await sink.flush()
  renameSync(path, `${path}.1`)
  sink.write(line(2))
  await sink.flush()
  sink.reopen()
  sink.write(line(3))
  await sink.close()
  t.equal(read(`${path}.1`), line(1) + line(2))
  t.equal(read(path), line(3))
})

t.test('goes on in the old file when the new one cannot be opened, and says so', async (t) => {
  const dir = t.testdir({ logs: {} })
  const path = join(dir, 'logs', 'log')
  const problems: string[] = []
  const sink = createLineSink(openOutput(path), { onProblem: (error) => problems.push(error.message) })
  renameSync(join(dir, 'logs'), join(dir, 'moved'))
  sink.reopen()
  sink.write(line(1))
  await sink.close()
  t.equal(read(join(dir, 'moved', 'log')), line(1))
  t.match(problems, [/ENOENT/])
})

t.test('a path that cannot be opened is an error at the start', async (t) => {
  t.throws(() => openOutput(join(t.testdir(), 'missing', 'log')), { code: 'ENOENT' })
})

t.test('drops and counts the lines that a full disk does not take, and says so once', async (t) => {
  const problems: string[] = []
  const sink = createLineSink(openOutput('/dev/full'), { onProblem: (error) => problems.push(error.message) })
  for (let i = 0; i < 10; i++) sink.write(line(i))
  await sink.flush()
  t.equal(sink.dropped(), 10)
  sink.write(line(10))
  await sink.flush()
  t.equal(sink.dropped(), 11)
  t.match(problems, [/ENOSPC/])
  sink.write(line(11))
  sink.flushSync()
  t.equal(sink.dropped(), 12)
  await sink.close()
})

t.test('drops and counts lines while nobody reads the pipe, without waiting or growing', async (t) => {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const sink = createLineSink(openOutput(path), { maxBytes: 1_000_000 })
  const text = 'x'.repeat(1000)
  const total = 20_000
  for (let i = 0; i < total; i++) {
    sink.write(`${i} ${text}\n`)
    if (i % 1000 === 0) await new Promise(setImmediate)
  }
  t.ok(sink.dropped() > total - 1500, `${sink.dropped()} of ${total} lines dropped: what waits is bounded`)
  const began = performance.now()
  await sink.flush(100)
  t.ok(performance.now() - began < 5000, 'a flush gives up')

  // When the reader comes back, everything that was kept arrives, whole and in order.
  let received = ''
  const buffer = Buffer.alloc(65_536)
  const flushed = sink.flush(10_000)
  let done = false
  flushed.then(() => {
    done = true
  })
  for (;;) {
    let got = 0
    try {
      got = readSync(reader, buffer)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
    received += buffer.toString('latin1', 0, got)
    if (got === 0 && done) break
    if (got === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  const lines = received.split('\n')
  t.equal(lines.pop(), '')
  t.equal(lines.length + sink.dropped(), total)
  const numbers = lines.map((one) =>
    one.endsWith(` ${text}`) ? Number(one.slice(0, -text.length - 1)) : Number.NaN,
  )
  t.ok(
    numbers.every((n, i) => n > (numbers[i - 1] ?? -1)),
    'whole and in order',
  )
  closeSync(reader)
  await sink.close()
})

t.test('survives a reader that leaves, and goes on when one comes back', async (t) => {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  const first = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const problems: string[] = []
  const sink = createLineSink(openOutput(path), { onProblem: (error) => problems.push(error.message) })
  closeSync(first)
  sink.write(line(1))
  await sink.flush()
  t.equal(sink.dropped(), 1)
  t.match(problems, [/EPIPE/])
  const second = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  sink.write(line(2))
  await sink.flush()
  const buffer = Buffer.alloc(100)
  t.equal(buffer.toString('utf8', 0, readSync(second, buffer)), line(2))
  closeSync(second)
  await sink.close()
})

t.test('flushSync writes waiting lines at once', async (t) => {
  const path = join(t.testdir(), 'log')
  const sink = createLineSink(openOutput(path), { flushMs: 60_000 })
  sink.write(line(1))
  sink.flushSync()
  t.equal(read(path), line(1))
  sink.write(line(2))
  await sink.close()
  t.equal(read(path), line(1) + line(2))
})

t.test('a line after the close counts as lost', async (t) => {
  const sink = createLineSink(openOutput(join(t.testdir(), 'log')))
  await sink.close()
  await sink.close()
  sink.write(line(1))
  await sink.flush()
  t.equal(sink.dropped(), 1)
})

/** An output that takes so many bytes, or fails so, as the list says; then it takes everything. */
function moody(moods: readonly (number | 'EAGAIN' | 'ENOSPC')[]): Output & { received(): string } {
  const left = [...moods]
  const pieces: Buffer[] = []
  return {
    write(bytes, offset, done) {
      const mood = left.shift() ?? bytes.length
      setImmediate(() => {
        if (typeof mood === 'string') {
          done(Object.assign(new Error(mood), { code: mood }), 0)
          return
        }
        const taken = bytes.subarray(offset, Math.min(bytes.length, offset + Math.max(1, mood)))
        pieces.push(Buffer.from(taken))
        done(null, taken.length)
      })
    },
    writeSync: () => 0,
    reopen() {},
    close: () => Promise.resolve(),
    received: () => Buffer.concat(pieces).toString(),
  }
}

t.test('whatever the output does, a line arrives whole, once and in order, or counts as lost', async (t) => {
  const mood = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 60 }) },
    { weight: 2, arbitrary: fc.constant('ENOSPC' as const) },
    { weight: 1, arbitrary: fc.constant('EAGAIN' as const) },
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(mood, { maxLength: 12 }),
      fc.array(fc.constantFrom('', 'a', 'grüße 🌊', 'x'.repeat(30)), { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 1, max: 80 }),
      async (moods, texts, chunkSize) => {
        const output = moody(moods)
        const sink = createLineSink(output, { chunkSize })
        const sent = texts.map((text, i) => `<${i}:${text}>`)
        for (const one of sent) sink.write(`${one}\n`)
        await sink.flush()
        const whole = output
          .received()
          .split('\n')
          .filter((one) => sent.includes(one))
        const numbers = whole.map((one) => sent.indexOf(one))
        const inOrder = numbers.every((n, i) => i === 0 || n > numbers[i - 1]!)
        return inOrder && whole.length + sink.dropped() === sent.length
      },
    ),
    { numRuns: 100 },
  )
  t.pass('100 histories')
})
