/**
 * Runs one limiter in a process of its own, as a gateway would have it, with the callers that ask it. Takes a job a message and
 * answers with its figures.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { SUBJECTS } from './subjects.mjs'

const { subject: name, shape, port, consumers: count } = JSON.parse(process.argv[2])
const consumers = Array.from({ length: count }, (_, i) => i)
const subject = await SUBJECTS[name]({ port, shape, consumers })
const now = () => performance.timeOrigin + performance.now()
let next = 0
/** Decisions since the process began, which the store must have counted. */
let allowedEver = 0
/** Decisions until the event loop gets its turn: a limiter that answers from memory would otherwise block it. */
const WITHOUT_A_TURN = 1024

/** Closed loop: that many callers, each asking again when it has its answer. */
async function closedLoop({ inFlight, ms }) {
  const seen = { allowed: 0, denied: 0 }
  let stopped = false
  let sinceTurn = 0
  async function caller() {
    while (!stopped) {
      const answer = subject.take(next++ % count)
      const allowed = answer instanceof Promise ? await answer : answer
      if (allowed) seen.allowed++
      else seen.denied++
      if (++sinceTurn >= WITHOUT_A_TURN) {
        await turn()
        sinceTurn = 0
      }
    }
  }
  const before = subject.decidedBy?.()
  const cpu = process.cpuUsage()
  const from = performance.now()
  setTimeout(() => {
    stopped = true
  }, ms)
  await Promise.all(Array.from({ length: inFlight }, caller))
  const tookMs = performance.now() - from
  const { user, system } = process.cpuUsage(cpu)
  allowedEver += seen.allowed
  const decisions = seen.allowed + seen.denied
  return {
    ...seen,
    decisions,
    tookMs,
    cpuUs: user + system,
    decidedBy: difference(subject.decidedBy?.(), before),
  }
}

function difference(after = {}, before = {}) {
  return Object.fromEntries(Object.entries(after).map(([key, n]) => [key, n - (before[key] ?? 0)]))
}

/** Open loop: a decision is due every 1/rate s, whatever happened to the last, and its latency counts from then. */
async function paced({ rate, seconds, warmup }) {
  const total = Math.round(rate * (seconds + warmup))
  const uncounted = Math.round(rate * warmup)
  const intervalMs = 1000 / rate
  const fromDue = new Float64Array(total)
  const fromCall = new Float64Array(total)
  const late = new Float64Array(total)
  const startAt = now() + 100
  const before = subject.decidedBy?.()
  let sent = 0
  let answered = 0
  let finish
  const finished = new Promise((resolve) => {
    finish = resolve
  })
  async function one(i) {
    const called = now()
    const due = startAt + i * intervalMs
    late[i] = called - due
    if (await subject.take(next++ % count)) allowedEver++
    const at = now()
    fromDue[i] = at - due
    fromCall[i] = at - called
    if (++answered === total) finish()
  }
  function send() {
    while (sent < total && startAt + sent * intervalMs <= now()) one(sent++)
  }
  const stopped = new Int32Array(new SharedArrayBuffer(4))
  const pacer = new Worker(fileURLToPath(new URL('../harness/pacer.mjs', import.meta.url)), {
    workerData: { intervalMs, startAt, count: total, stopped },
  })
  pacer.on('message', send)
  const sweep = setInterval(send, 5)
  setTimeout(() => process.send({ event: 'counting' }), startAt + uncounted * intervalMs - now())
  await finished
  clearInterval(sweep)
  await pacer.terminate()
  const [due, call, generator] = [fromDue, fromCall, late].map((all) => percentiles(all.subarray(uncounted)))
  const decidedBy = difference(subject.decidedBy?.(), before)
  return { decisions: total - uncounted, decidedBy, fromDue: due, fromCall: call, late: generator }
}

function percentiles(values) {
  const sorted = Float64Array.from(values).sort()
  const at = (p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

/**
 * Checks that the store has counted all decisions: consumers come in turn, so each has used its even share.
 *
 * @returns how far the consumer that is furthest off is, in decisions
 */
async function check() {
  let furthest = 0
  for (let i = 0; i < count; i += Math.ceil(count / 50)) {
    furthest = Math.max(furthest, Math.abs((await subject.used(i)) - allowedEver / count))
  }
  return furthest
}

const JOBS = { closedLoop, paced, check }
process.on('message', async ({ job, ...options }) => {
  process.send({ event: 'done', figures: await JOBS[job](options) })
})
process.on('disconnect', () => process.exit(0))
process.send({ port: 0 })
