/** Clients at a constant rate, whatever comes back, and what they saw. */
import { Agent, request } from 'undici'

/**
 * @param target gives the address of each request, so that a load balancer can be played
 * @param headers gives those of each request
 * @returns from the moment of the call on, so many requests a second until `stop`
 */
export function startLoad(target, { rate = 150, connections = 64, method = 'GET', headers, body } = {}) {
  const agent = new Agent({ connections, pipelining: 1, bodyTimeout: 20_000, headersTimeout: 20_000 })
  const seen = []
  const open = new Set()
  let marked = Number.POSITIVE_INFINITY
  let healed = Number.POSITIVE_INFINITY
  const began = performance.now()
  let sent = 0

  async function one() {
    const at = performance.now()
    let outcome
    try {
      const answer = await request(target(), { dispatcher: agent, method, headers: headers?.(), body })
      await answer.body.text()
      outcome = { status: answer.statusCode, retryAfter: answer.headers['retry-after'] }
    } catch (error) {
      outcome = { status: error.code === 'ECONNREFUSED' ? 'refused' : 'cut' }
    }
    seen.push({ at, ms: performance.now() - at, ...outcome })
  }
  // Requests that a busy machine delayed are sent together, so the rate holds over the whole time.
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - began) * rate) / 1000)
    for (; sent < due; sent++) {
      const running = one()
      open.add(running)
      running.finally(() => open.delete(running))
    }
  }, 5)

  return {
    /** Marks the beginning of the fault. */
    mark: () => {
      marked = performance.now()
    },
    /** Marks the end of the fault. */
    heal: () => {
      healed = performance.now()
    },
    count: () => seen.length,
    async stop() {
      clearInterval(timer)
      await Promise.all(open)
      await agent.destroy()
      return summary(seen, marked, healed)
    },
  }
}

const EDGE_MS = 300

function summary(seen, marked, healed) {
  // Both ends are cut off: requests then may or may not have met the fault.
  const during = seen.filter(({ at }) => at >= marked + EDGE_MS && at < healed - EDGE_MS)
  const after = seen.filter(({ at }) => at >= healed)
  const failed = seen.filter(({ status }) => status !== 200)
  const times = during.map(({ ms }) => ms).sort((a, b) => a - b)
  const lastBad = Math.max(0, ...after.filter(({ status }) => status !== 200).map(({ at }) => at - healed))
  return {
    seen,
    requests: seen.length,
    failed: failed.length,
    during: tally(during),
    before: tally(seen.filter(({ at }) => at < marked)),
    p50: quantile(times, 0.5),
    p99: quantile(times, 0.99),
    /** Ms from the end of the fault to the last request that failed. */
    recovered: after.length === 0 ? undefined : lastBad,
    retryAfter: during.every(({ status, retryAfter }) => status !== 503 || Number(retryAfter) >= 1),
  }
}

export function tally(seen) {
  const counts = {}
  for (const { status } of seen) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

export function quantile(sorted, q) {
  return sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export async function until(what, ms, test) {
  const end = performance.now() + ms
  while (!(await test())) {
    if (performance.now() > end) throw new Error(`${what}: not so after ${ms} ms`)
    await sleep(20)
  }
}
