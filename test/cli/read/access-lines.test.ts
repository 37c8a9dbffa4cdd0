import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import t from 'tap'
import { type LineProblems, loggedRequests, readLine } from '../../../src/cli/read/access-lines.js'
import type { LoggedRequest } from '../../../src/gateway/simulate/log-replay.js'

const lineOf = (id: string, ended: number, took: number) =>
  JSON.stringify({
    time: new Date(ended).toISOString(),
    request_id: id,
    method: 'GET',
    host: 'api.example.com',
    path: '/x',
    client_ip: '192.0.2.7',
    status: 200,
    duration_ms: took,
  })

const io = { stdin: Readable.from([]), cwd: process.cwd() }

async function all(files: string[]) {
  const problems: LineProblems = { other: 0, first: undefined }
  const found: LoggedRequest[] = []
  for await (const request of loggedRequests(io, files, problems)) found.push(request)
  return { found, problems }
}

t.test('a line of the access log is parsed', async (t) => {
  const line =
    '{"time":"2026-11-24T13:50:49.731Z","request_id":"5f400c11db6b-a","method":"GET","host":"127.0.0.1","path":"/payments/1","route":"/payments/*","service":"payments","cost":1,"tier":"free","config":"e5f408b41f53","consumer":"alice","tenant":"acme","client_ip":"127.0.0.1","status":429,"error":"quota_exceeded","decided_by":"store","remaining":0,"limit":"minute","limit_ms":0.118,"duration_ms":31.2,"bytes_in":0,"bytes_out":298}'
  const ended = Date.parse('2026-11-24T13:50:49.731Z')
  t.same(readLine(line), {
    began: ended - 31,
    ended,
    requestId: '5f400c11db6b-a',
    method: 'GET',
    host: '127.0.0.1',
    path: '/payments/1',
    route: '/payments/*',
    service: 'payments',
    cost: 1,
    tier: 'free',
    consumer: 'alice',
    tenant: 'acme',
    clientIp: '127.0.0.1',
    status: 429,
    error: 'quota_exceeded',
    reachedLimits: true,
  })
  const reached = (more: object) =>
    readLine(JSON.stringify({ ...JSON.parse(lineOf('a', 50, 1)), ...more }))?.reachedLimits
  t.equal(reached({ error: 'forbidden' }), false)
  t.equal(
    reached({ upstream: '10.0.0.1:80', error: 'upstream_timeout' }),
    true,
    'without limits, and forwarded',
  )
})

t.test('any other line is left out', async (t) => {
  for (const text of [
    'null',
    '1',
    '[]',
    '{',
    '{}',
    '{"level":"info","time":"2026-11-24T13:50:49.731Z","msg":"started"}',
    lineOf('a', 0, 1).replace('"time":"', '"time":"not '),
    lineOf('a', 0, 1).replace('"status":200', '"status":"200"'),
    lineOf('a', 0, 1).slice(0, -9),
  ])
    t.equal(readLine(text), undefined, text)
  t.match(readLine(lineOf('a', 50, 1).replace('"duration_ms":1', '"duration_ms":-1')), { began: 50 })
})

t.test('several logs are merged by the time at which requests began', async (t) => {
  const request = fc.record({ file: fc.nat(2), after: fc.nat(1000), took: fc.nat(5000) })
  const folder = t.testdir()
  await fc.assert(
    fc.asyncProperty(fc.array(request, { maxLength: 40 }), fc.boolean(), async (requests, packed) => {
      let began = 0
      const made = requests.map(({ file, after, took }, i) => {
        began += after
        return { id: `r-${i}`, file, began, ended: began + took }
      })
      const files = [0, 1, 2].map((file) => {
        const lines = made
          .filter((one) => one.file === file)
          .sort((a, b) => a.ended - b.ended)
          .map(({ id, ended, began }) => `${lineOf(id, ended, ended - began)}\n`)
          .join('')
        const path = join(folder, `access-${file}.log`)
        writeFileSync(path, packed ? gzipSync(lines) : lines)
        return path
      })
      const { found, problems } = await all(files)
      const times = found.map((one) => one.began)
      if (times.some((time, i) => i > 0 && time < times[i - 1]!)) throw new Error(`not in order: ${times}`)
      if (found.length !== made.length || problems.other !== 0) throw new Error('lines are missing')
    }),
    { numRuns: 40 },
  )
  t.pass()
})

t.test('other lines are counted, with the place of the first', async (t) => {
  const file = join(t.testdir(), 'access.log')
  writeFileSync(file, `${lineOf('a', 10, 1)}\n\n{"level":"info"}\nnonsense\n${lineOf('b', 20, 1)}`)
  const { found, problems } = await all([file])
  t.same(
    found.map(({ requestId }) => requestId),
    ['a', 'b'],
  )
  t.same(problems, { other: 2, first: `${file}:3` })
})

t.test('an unreadable file is an error that says why', async (t) => {
  const folder = t.testdir({
    'cut.gz': gzipSync(lineOf('a', 10, 1)).subarray(0, 40),
    'bad.gz': Buffer.concat([gzipSync('x').subarray(0, 12), Buffer.alloc(40, 255)]),
    'long.log': 'x'.repeat(70_000),
  })
  const reads = (file: string, why: RegExp) => t.rejects(all([join(folder, file)]), why, file)
  await reads('cut.gz', /cut\.gz: it ends in the middle of its compressed data/)
  await reads('bad.gz', /bad\.gz: its compressed data is damaged/)
  await reads('none.log', /none\.log: there is no such file/)
  await reads('', /: it is a folder/)
  await reads('long.log', /long\.log: line 1 is longer than 65536 characters/)
})
