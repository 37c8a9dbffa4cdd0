// Tests src/metering/sender.ts src/metering/http-receiver.ts src/metering/file-receiver.ts
import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { Metering } from '../../src/metering/metering.js'
import { eventually } from '../support/eventually.js'
import {
  openMeter as open,
  refusalOf,
  METERED_SINCE as START,
  startReceiver,
} from '../support/gateway/metered.js'
import { scratchFolder } from '../support/scratch.js'

const MINUTE = 60_000

const sent = (metering: Metering) =>
  eventually('all is sent', () => metering.state().waiting === 0 && metering.state().sent > 0)

t.test('each group of an interval is one CloudEvent, sent once the interval is over', async (t) => {
  const receiver = await startReceiver(t)
  const http = { url: receiver.url, headers: { authorization: 'Bearer secret' }, timeout: 1000 }
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), { http })
  request('acme', { tenant: 'acme-inc', status: 200 })
  request('acme', { tenant: 'acme-inc', status: 404, cost: 0 })
  await metering.tick()
  t.match(metering.state(), { groups: 1, waiting: 0, lag_ms: 0, unsaved_ms: 0, sent: 0, sent_to: null })
  t.equal(receiver.requests.length, 0)
  clock.now += MINUTE
  await metering.tick()
  await sent(metering)
  t.strictSame(receiver.requests, [
    { type: 'application/cloudevents-batch+json', token: 'Bearer secret', events: 1 },
  ])
  const [event] = receiver.events.values()
  t.match(event, {
    specversion: '1.0',
    type: 'tidegate.usage',
    id: /^[0-9a-f]{16}-0-0$/,
    source: 'gateway-eu',
    subject: 'acme',
    time: '2025-10-09T08:54:00.000Z',
    datacontenttype: 'application/json',
  })
  t.strictSame(event!.data, {
    consumer: 'acme',
    tenant: 'acme-inc',
    service: 'payments',
    tier: 'free',
    from: '2025-10-09T08:54:00.000Z',
    to: '2025-10-09T08:55:00.000Z',
    requests: 2,
    cost: 1,
    denied: 0,
    refunded: 1,
    requests_2xx: 1,
  })
  t.match(metering.state(), { groups: 0, sent: 1, sent_to: '2025-10-09T08:55:00.000Z' })
})

t.test('receivers take the event of any consumer', async (t) => {
  const receiver = await startReceiver(t)
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: receiver.url, timeout: 1000 },
  })
  const ids = [
    'a',
    ' ',
    'a\u0000b\u009f',
    '\ud800',
    '\uffff\u{1fffe}',
    '<img src=x>',
    'ü'.repeat(1024),
    '"end":true',
  ]
  for (const id of ids) request(id, { tenant: id })
  request('203.0.113.7', { identifiedBy: 'ip' })
  clock.now += MINUTE
  await metering.tick()
  await sent(metering)
  t.equal(receiver.events.size, ids.length + 1)
  const [event] = [...receiver.events.values()]
  for (const wrong of [
    { subject: '' },
    { time: 'yesterday' },
    { source: 'a b' },
    { data: 1 },
    { id: undefined },
    { a_b: 1 },
  ])
    t.ok(refusalOf('application/cloudevents-batch+json', [{ ...event, ...wrong }]), JSON.stringify(wrong))
})

t.test('a receiver that is away loses nothing, and one that answers late gets the same ids', async (t) => {
  let status = 503
  const tried = new Map<string, number>()
  const receiver = await startReceiver(t, (batch) => {
    for (const { id } of batch) tried.set(id, (tried.get(id) ?? 0) + 1)
    return status
  })
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: receiver.url, timeout: 1000 },
  })
  for (let i = 0; i < 3; i++) {
    request('acme')
    clock.now += MINUTE
    await metering.tick()
  }
  await eventually('it was refused', () => metering.state().failed > 0)
  t.match(metering.state(), { waiting: 3, lag_ms: 2 * MINUTE, problem: 'the receiver answers 503', sent: 0 })
  status = 204
  await sent(metering)
  t.equal(receiver.events.size, 3)
  t.ok(
    [...tried.values()].some((count) => count > 1),
    'an event was sent twice under one id',
  )
  t.match(metering.state(), { lag_ms: 0, problem: null })
})

t.test('a receiver that takes only small batches gets them', async (t) => {
  const receiver = await startReceiver(t, (batch) => (batch.length > 100 ? 413 : 202))
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: receiver.url, timeout: 1000 },
  })
  for (let i = 0; i < 450; i++) request(`c${i}`)
  clock.now += MINUTE
  await metering.tick()
  await sent(metering)
  t.equal(receiver.events.size, 450)
})

t.test('the usage of one consumer is shown, counting, waiting and sent', async (t) => {
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: 'http://127.0.0.1:1/', timeout: 100 },
  })
  request('acme')
  request('bob')
  clock.now += MINUTE
  await metering.tick()
  request('acme')
  request('acme')
  t.match(await metering.latest('acme', 10), [
    { state: 'counting', event: { data: { requests: 2 } } },
    { state: 'waiting', event: { data: { requests: 1 } } },
  ])
  t.strictSame(await metering.latest('nobody', 10), [])
})

t.test('at the end everything is saved and sent, and what is not is sent by the next gateway', async (t) => {
  const path = scratchFolder(t, 'meter-')
  const away = { http: { url: 'http://127.0.0.1:1/', timeout: 100 } }
  const first = await open(t, path, away)
  first.request('acme')
  await first.metering.close()
  t.match(first.metering.state(), { waiting: 1 })

  const receiver = await startReceiver(t)
  const second = await open(t, path, { http: { url: receiver.url, timeout: 1000 } })
  second.request('acme')
  await second.metering.close()
  t.equal(receiver.events.size, 2)
  t.equal(new Set([...receiver.events.values()].map(({ id }) => id.slice(0, 16))).size, 2)
})

t.test('a file has one event a line, and two old files are kept', async (t) => {
  const path = scratchFolder(t, 'meter-')
  const file = join(path, 'usage.jsonl')
  const { metering, clock, request } = await open(t, path, { file: { path: file, size: 1000 } })
  for (let i = 0; i < 12; i++) {
    request('acme')
    clock.now += MINUTE
    await metering.tick()
    await sent(metering)
  }
  const names = (await readdir(path)).filter((name) => name.startsWith('usage')).sort()
  t.strictSame(names, ['usage.jsonl', 'usage.jsonl.1', 'usage.jsonl.2'])
  const lines = (await readFile(`${file}.1`, 'utf8')).trim().split('\n')
  t.ok(lines.length > 1)
  for (const line of lines) t.match(JSON.parse(line), { specversion: '1.0', data: { requests: 1 } })
})

t.test('a clock that was far ahead and is set back ends the interval', async (t) => {
  const receiver = await startReceiver(t)
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: receiver.url, timeout: 1000 },
  })
  clock.now += 1000 * MINUTE
  await metering.tick()
  request('acme')
  clock.now = START
  await metering.tick()
  await sent(metering)
  request('acme')
  clock.now += MINUTE
  await metering.tick()
  await eventually('both are sent', () => receiver.events.size === 2)
})

t.test('a receiver that answers without end has a batch for its timeout only', async (t) => {
  let requests = 0
  const server = createServer((req, res) => {
    requests++
    req.resume()
    res.writeHead(requests === 1 ? 503 : 204)
    if (requests > 1) return res.end()
    const timer = setInterval(() => res.write('.'), 20)
    res.on('close', () => clearInterval(timer))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, timeout: 200 },
  })
  request('acme')
  clock.now += MINUTE
  await metering.tick()
  await sent(metering)
  t.match(metering.state(), { sent: 1, failed: 1 })
})

t.test('a receiver that takes a few batches at a time gets each of them once', async (t) => {
  let requests = 0
  const receiver = await startReceiver(t, () => (++requests === 2 ? 429 : 202))
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: receiver.url, timeout: 1000 },
  })
  for (let i = 0; i < 1100; i++) request(`c${i}`)
  clock.now += MINUTE
  await metering.tick()
  await sent(metering)
  t.equal(receiver.events.size, 1100)
  t.strictSame(
    receiver.requests.map(({ events }) => events),
    [500, 500, 500, 100],
  )
})

t.test('a line that was torn in a file does not take the next one with it', async (t) => {
  const path = scratchFolder(t, 'meter-')
  const file = join(path, 'usage.jsonl')
  await writeFile(file, '{"specversion":"1.0"}\n{"specver')
  const { metering, clock, request } = await open(t, path, { file: { path: file, size: 1e6 } })
  request('acme')
  clock.now += MINUTE
  await metering.tick()
  await sent(metering)
  const lines = (await readFile(file, 'utf8')).split('\n')
  t.equal(lines.length, 4)
  t.match(JSON.parse(lines[2]!), { subject: 'acme' })
})

t.test('whatever a consumer is called, its event is a CloudEvent, and it is nobody else', async (t) => {
  const receiver = await startReceiver(t)
  const { metering, clock, request } = await open(t, scratchFolder(t, 'meter-'), {
    http: { url: receiver.url, timeout: 1000 },
  })
  const ids = ['\u0000others', 'a\nb', '\u0085', '\uffff', '__proto__', 'é💶'.repeat(80), '"\\', '\ud800']
  for (const id of ids) request(id)
  clock.now += MINUTE
  await metering.tick()
  await sent(metering)
  const events = [...receiver.events.values()]
  t.strictSame(
    events.map(({ data }) => data.consumer),
    ids,
  )
  t.strictSame(
    events.map(({ subject }) => subject),
    ['%00others', 'a%0Ab', '%C2%85', '%EF%BF%BF', '__proto__', ids[5], '"\\', '\ufffd'],
  )
})
