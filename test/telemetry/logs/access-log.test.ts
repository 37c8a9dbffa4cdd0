import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { createAccessLog } from '../../../src/telemetry/logs/access-log.js'
import { exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

const snapshot = exampleSnapshot()

t.test('the log writes to a file, and off writes nothing', async (t) => {
  const path = join(t.testdir(), 'access.log')
  const log = createAccessLog({ destination: path })
  log.write(exampleRecord(snapshot, { requestId: 'a' }))
  log.write(exampleRecord(snapshot, { requestId: 'b' }))
  await log.close()
  const ids = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).request_id)
  t.same(ids, ['a', 'b'])
  const off = createAccessLog({ destination: 'off' })
  off.write(exampleRecord(snapshot))
  await off.flush()
  off.reopen()
  await off.close()
  t.equal(off.dropped(), 0)
})

const child = fileURLToPath(new URL('../../../dist-test/support/gateway/log-to-stdout.js', import.meta.url))

async function logToStdout(lines: number, reader: 'asleep' | 'gone') {
  const args = [...process.execArgv, child, String(lines)]
  const run = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  if (reader === 'gone') run.stdout.destroy()
  let said = ''
  run.stderr.on('data', (chunk) => {
    said += chunk
  })
  const [code] = await once(run, 'close')
  return { code, said, figures: JSON.parse(said) }
}

t.test('a stdout that nobody reads, or whose reader left, costs lines, but no time or memory', async (t) => {
  const [asleep, gone] = await Promise.all([logToStdout(60_000, 'asleep'), logToStdout(5000, 'gone')])
  t.equal(asleep.code, 0, asleep.said)
  const { dropped, slowest, rss } = asleep.figures
  t.ok(dropped > 30_000, `${dropped} of 60,000 lines of 400 bytes dropped, 8 MiB kept`)
  t.ok(slowest < 5000, `no line waited: ${slowest} ms`)
  t.ok(rss < 400e6, `${rss} bytes`)
  t.equal(gone.code, 0, gone.said)
  t.ok(gone.figures.dropped > 4000, gone.said)
})

t.test('with other processes on a pipe, no line is longer than one atomic write', async (t) => {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  // Opens both ends at once, so that neither waits for the other.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  t.teardown(() => closeSync(fd))
  const log = createAccessLog({ destination: path, shared: true })
  const long = '\u{1f600}'.repeat(500)
  const plain = exampleRecord(snapshot)
  log.write({ ...plain, host: long, target: `/${long}`, consumer: long, cause: long })
  log.write(plain)
  await log.close()
  const bytes = Buffer.alloc(65_536)
  const text = bytes.toString('latin1', 0, readSync(fd, bytes))
  const [first, second] = text.trimEnd().split('\n')
  t.ok(first!.length < 4096, `${first!.length}`)
  t.match(JSON.parse(first!), { method: plain.method, consumer: /^.{64}\.\.\.$/s })
  t.equal(JSON.parse(second!).host, plain.host)
})
