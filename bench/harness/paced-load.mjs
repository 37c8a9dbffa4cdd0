/**
 * Open-loop load: requests leave at a constant rate whatever the answers do, and a latency counts from when its
 * request was due, not from when it could be sent, so a stall is not hidden by the requests that it held up.
 * Run as a child; takes one job a message and answers with its figures.
 */
import { once } from 'node:events'
import net from 'node:net'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

const now = () => performance.timeOrigin + performance.now()
const buffer = Buffer.allocUnsafeSlow(256 * 1024)
const headEnd = Buffer.from('\r\n\r\n')

/** Opens keep-alive connections, one consumer and one request at a time each. */
async function connect({ port, path, clients }, onAnswer, onBroken) {
  const all = []
  // A few hundred at a time: the test is about parallel requests, not about the listen queue.
  for (let from = 0; from < clients; from += 250) {
    const some = []
    for (let i = from; i < Math.min(clients, from + 250); i++)
      some.push(client(i, port, path, onAnswer, onBroken))
    all.push(...some)
    await Promise.all(some.map((c) => c.ready))
  }
  return all
}

function client(index, port, path, onAnswer, onBroken) {
  const c = {
    index,
    busy: false,
    due: 0,
    slot: -1,
    passed: 0,
    limited: 0,
    socket: undefined,
    ready: undefined,
  }
  c.request = Buffer.from(
    `GET ${path}/orders/${index} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAccept: application/json\r\nX-User-Id: user-${index}\r\n\r\n`,
  )
  let partial = ''
  function take(size) {
    // Nearly every response arrives whole and alone; the slow path is for the others.
    let text = buffer.latin1Slice(0, size)
    if (partial !== '') text = partial + text
    const end = text.indexOf('\r\n\r\n')
    const length = end === -1 ? undefined : bodyLength(text, end)
    if (length === undefined || text.length < length) {
      partial = text
      return true
    }
    partial = ''
    if (!c.busy || text.length > length)
      return onBroken(c, `an answer that was not asked for: ${text.slice(0, 80)}`)
    c.busy = false
    onAnswer(c, Number(text.slice(9, 12)))
    return true
  }
  c.socket = net.connect({ port, host: '127.0.0.1', noDelay: true, onread: { buffer, callback: take } })
  c.ready = once(c.socket, 'connect')
  c.socket.on('error', (error) => onBroken(c, error.code))
  c.socket.on('close', () => onBroken(c, 'closed by the other side'))
  return c
}

/** Returns the length of the whole message, or undefined while it is unknown. */
function bodyLength(text, end) {
  const head = text.slice(0, end).toLowerCase()
  const at = head.indexOf('\r\ncontent-length:')
  if (at !== -1) return end + headEnd.length + Number.parseInt(head.slice(at + 17), 10)
  if (!head.includes('\r\ntransfer-encoding: chunked')) return end + headEnd.length
  const last = text.indexOf('\r\n0\r\n\r\n', end)
  return last === -1 ? undefined : last + 7
}

function percentiles(values) {
  const sorted = Float64Array.from(values).sort()
  const at = (p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? 0
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1) }
}

/** Sends `rate` requests a second for `seconds`, after `warmup` seconds that don't count, over all clients in turn. */
async function paced(job) {
  const total = Math.round(job.rate * (job.seconds + job.warmup))
  const uncounted = Math.round(job.rate * job.warmup)
  const latency = new Float64Array(total)
  const late = new Float64Array(total)
  const seen = { answered: 0, passed: 0, limited: 0, other: {}, broken: 0, why: undefined }
  let closing = false
  let finish
  const finished = new Promise((resolve) => {
    finish = resolve
  })
  const clients = await connect(
    job,
    (c, status) => {
      latency[c.slot] = now() - c.due
      count(seen, c, status)
      if (seen.answered + seen.broken === total) finish()
    },
    (c, why) => {
      if (closing || c.gone) return
      c.gone = true
      seen.broken++
      seen.why ??= why
      if (seen.answered + seen.broken >= total) finish()
    },
  )

  const intervalMs = 1000 / job.rate
  const startAt = now() + 100
  let next = 0
  let turn = 0
  function send() {
    const at = now()
    while (next < total && startAt + next * intervalMs <= at) {
      let c
      for (let tries = 0; tries < clients.length; tries++) {
        const candidate = clients[turn]
        turn = (turn + 1) % clients.length
        if (!candidate.busy && !candidate.gone) {
          c = candidate
          break
        }
      }
      // Every client waits for a response: the request stays due, and the wait is part of its latency.
      if (c === undefined) return
      c.busy = true
      c.slot = next
      c.due = startAt + next * intervalMs
      late[next] = at - c.due
      next++
      c.socket.write(c.request)
    }
  }
  const stopped = new Int32Array(new SharedArrayBuffer(4))
  const pacer = new Worker(fileURLToPath(new URL('pacer.mjs', import.meta.url)), {
    workerData: { intervalMs, startAt, count: total, stopped },
  })
  pacer.on('message', send)
  const sweep = setInterval(send, 5)
  const counted = () => process.send({ event: 'counting' })
  setTimeout(counted, startAt + uncounted * intervalMs - now())
  const patience = setTimeout(finish, (job.seconds + job.warmup) * 1000 + 10_000)
  await finished
  const tookMs = now() - (startAt + uncounted * intervalMs)
  clearTimeout(patience)
  clearInterval(sweep)
  stopped[0] = 1
  await pacer.terminate()
  closing = true
  for (const c of clients) c.socket.destroy()
  return {
    sent: next,
    counted: total - uncounted,
    tookMs,
    ...seen,
    unanswered: next - seen.answered,
    clients: spread(clients),
    latency: percentiles(latency.subarray(uncounted)),
    late: percentiles(late.subarray(uncounted)),
  }
}

/** Sends from every client at the same moment, `bursts` times over. */
async function bursts(job) {
  const seen = { answered: 0, passed: 0, limited: 0, other: {}, broken: 0, why: undefined }
  const latency = []
  let closing = false
  let left = 0
  let finish = () => {}
  const clients = await connect(
    job,
    (c, status) => {
      latency.push(now() - c.due)
      count(seen, c, status)
      if (--left === 0) finish()
    },
    (c, why) => {
      if (closing || c.gone) return
      c.gone = true
      seen.broken++
      seen.why ??= why
      if (c.busy && --left === 0) finish()
    },
  )
  let sent = 0
  for (let i = 0; i < job.bursts; i++) {
    const done = new Promise((resolve) => {
      finish = resolve
    })
    const due = now()
    left = 0
    for (const c of clients) {
      if (c.gone) continue
      left++
      sent++
      c.busy = true
      c.due = due
      c.socket.write(c.request)
    }
    if (left === 0) break
    const patience = setTimeout(finish, 20_000)
    await done
    clearTimeout(patience)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  closing = true
  for (const c of clients) c.socket.destroy()
  return {
    sent,
    ...seen,
    unanswered: sent - seen.answered,
    clients: spread(clients),
    latency: percentiles(latency),
  }
}

function count(seen, c, status) {
  seen.answered++
  if (status === 200) {
    seen.passed++
    c.passed++
  } else if (status === 429) {
    seen.limited++
    c.limited++
  } else {
    seen.other[status] = (seen.other[status] ?? 0) + 1
  }
}

/** Returns how many requests passed for the client with the most, and for the one with the fewest. */
function spread(clients) {
  return { most: Math.max(...clients.map((c) => c.passed)), least: Math.min(...clients.map((c) => c.passed)) }
}

process.on('message', async (job) => {
  process.send({ event: 'done', figures: await (job.bursts ? bursts(job) : paced(job)) })
})
process.on('disconnect', () => process.exit(0))
process.send({ port: 0 })
