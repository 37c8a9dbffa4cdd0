/**
 * The same load for k6 (https://k6.io), against load/tidegate.yaml; docs/load.md says how. It has not been run, because k6 was
 * not available.
 *
 *   k6 run -e URL=http://127.0.0.1:8080 -e ADMIN=http://127.0.0.1:8081 -e TOKEN=… -e SCENARIO=a load/k6.js
 *
 * SCENARIO is a, c or mix (only the locustfile has b, which changes a tier). USERS, RATE and SECONDS change its size.
 */

import { check, sleep } from 'k6'
import exec from 'k6/execution'
import http from 'k6/http'
import { Counter } from 'k6/metrics'

const URL = __ENV.URL || 'http://127.0.0.1:8080'
const ADMIN = __ENV.ADMIN || 'http://127.0.0.1:8081'
const USERS = Number(__ENV.USERS || 100)
const RATE = Number(__ENV.RATE || 4000)
const SECONDS = Number(__ENV.SECONDS || 30)
/** The quota of a free consumer on payments a minute, in load/tidegate.yaml. */
const FREE_LIMIT = 10

const SCENARIOS = {
  a: { executor: 'per-vu-iterations', vus: USERS, iterations: 1, exec: 'freeBurst' },
  c: {
    executor: 'constant-arrival-rate',
    rate: RATE,
    timeUnit: '1s',
    duration: `${SECONDS}s`,
    preAllocatedVUs: Number(__ENV.USERS || 5000),
    exec: 'parallel',
  },
  mix: { executor: 'constant-vus', vus: USERS, duration: `${SECONDS}s`, gracefulStop: '10s', exec: 'mixed' },
}
const name = __ENV.SCENARIO || 'mix'

export const options = {
  scenarios: { [name]: SCENARIOS[name] },
  thresholds: { checks: ['rate==1'], not_as_counted: ['count==0'] },
  summaryTrendStats: ['med', 'p(99)', 'p(99.9)', 'max'],
}

http.setResponseCallback(http.expectedStatuses(200, 429))
const answers = new Counter('answers')
const notAsCounted = new Counter('not_as_counted')

function ask(service, consumer, path = '/hello', body = null) {
  const response = http.request(body === null ? 'GET' : 'POST', `${URL}/${service}${path}`, body, {
    headers: { 'x-user-id': consumer },
    tags: { service },
  })
  answers.add(1, { service, status: String(response.status) })
  check(response, { 'is 200 or 429': ({ status }) => status === 200 || status === 429 })
  return response.status
}

/** Returns a consumer for each virtual user and run. */
function consumer(data) {
  return `k6-${data.run}-${exec.vu.idInTest}`
}

export function freeBurst(data) {
  const began = Date.now()
  let passed = 0
  for (let i = 0; i < FREE_LIMIT + 3; i++) if (ask('payments', consumer(data)) === 200) passed++
  // A tenth of the limit comes back every six seconds.
  const late = Math.floor(((Date.now() - began) * FREE_LIMIT) / 60000)
  check(passed, { 'exactly its limit passes': (n) => n >= FREE_LIMIT && n <= FREE_LIMIT + late })
}

export function parallel(data) {
  check(ask('parallel', consumer(data)), { 'within its limit': (status) => status === 200 })
}

export function mixed(data) {
  const dice = Math.random() * 33
  if (dice < 20) ask('payments', consumer(data))
  else if (dice < 30) ask('marketing', consumer(data))
  else if (dice < 32) ask('payments', consumer(data), '/refunds', 'amount=20')
  else for (let i = 0; i < 20; i++) ask('marketing', consumer(data))
  sleep(0.05 + Math.random() * 0.45)
}

function gateway() {
  const text = http.get(`${ADMIN}/metrics`, {
    headers: { authorization: `Bearer ${__ENV.TOKEN || ''}` },
  }).body
  const sum = (metric) =>
    text
      .split('\n')
      .filter((line) => line.startsWith(`${metric}{`) && !line.includes('tidegate_service="none"'))
      .reduce((all, line) => all + Number(line.slice(line.lastIndexOf(' '))), 0)
  return {
    requests: sum('http_server_request_duration_seconds_count'),
    open: sum('tidegate_fail_open_total'),
  }
}

export function setup() {
  return { run: Date.now(), before: gateway() }
}

/** Compares what it can: k6 has its totals only in handleSummary, which does not know the setup. */
export function teardown({ before }) {
  sleep(1)
  const after = gateway()
  if (after.open !== before.open) notAsCounted.add(after.open - before.open)
  console.log(`the gateway counted ${after.requests - before.requests} requests; compare with answers below`)
}
