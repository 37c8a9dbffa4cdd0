/**
 * Tidegate beside its peers on one Redis and one upstream, in interleaved rounds: CPU per request of the gateway's
 * process, as ratios of one round each. A round in which a contender did not do all of the work fails the bench.
 */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { OPEN_LIMIT, startFloor, startPeer, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { hasNginx, hasNginxLua, startNginx } from '../contenders/nginx.mjs'
import { cpuMs, GATEWAY_CORE, pinSelf, requireTools, shape, watchCore } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { ask, folder, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { median, printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

const CONNECTIONS = 64
/** Greatest share of a peer's CPU per request, by scenario. */
const MARKS = { allowed: { pair: 0.55, bare: 1.35 }, denied: { pair: 0.4 } }
const SCENARIOS = {
  allowed: { title: '10,000 consumers, nobody over the limit', prefix: 'open', consumers: 10_000 },
  denied: {
    title: '100 consumers on one request a minute, nearly all denied',
    prefix: 'denied',
    consumers: 100,
  },
}

/** Runs one round and returns its figures, with `wrong`: the signs that the work was not done, if any. */
async function round(contender, scenario, seconds, { upstream, store }) {
  const limited = contender.decisionCommand !== undefined
  // By then everything that the last load left has finished.
  await sleep(200)
  await store.clear()
  await store.resetCalls()
  contender.accessLines?.()
  const before = await contender.metrics?.()
  const hitsBefore = (await ask(upstream.child)).hits
  const pids = [contender.pid, store.pid]
  const disturbed = watchCore(GATEWAY_CORE)
  const cpuBefore = pids.map(cpuMs)
  const load = await wrk({
    url: `${contender.url}/${scenario.prefix}`,
    connections: CONNECTIONS,
    seconds,
    consumers: scenario.consumers,
  })
  const [gateway, redis] = pids.map((pid, i) => cpuMs(pid) - cpuBefore[i])
  const others = disturbed(gateway)

  const passed = load.requests - load.refused
  const hits = (await ask(upstream.child)).hits - hitsBefore
  const wrong = []
  // At its end wrk hangs up with one request in flight on each connection, and one answered that it has not counted: the
  // contender worked on those, too.
  const counts = (what, n, expected, slack = 2 * CONNECTIONS) => {
    if (n < expected || n > expected + slack) wrong.push(`${what}: ${n}, wrk counted ${expected}`)
  }
  if (load.broken > 0) wrong.push(`${load.broken} broken connections`)
  if (load.requests === 0) wrong.push('no request was answered')
  counts('upstream hits', hits, passed)
  if (scenario.prefix === 'open' && load.refused > 0)
    wrong.push(`${load.refused} answers above 399, none expected`)
  if (scenario.prefix === 'denied' && load.refused < 0.95 * load.requests) {
    wrong.push(`only ${load.refused} of ${load.requests} were denied`)
  }
  if (limited) {
    const decisions = (await store.calls())[contender.decisionCommand] ?? 0
    // A denial that is remembered to the millisecond may spare Redis the question; a request that passed may not.
    if (scenario.prefix === 'denied' && contender.remembersDenials) {
      if (decisions < passed) wrong.push(`${decisions} decisions in Redis for ${passed} that passed`)
    } else {
      counts(
        'decisions in Redis',
        decisions,
        load.requests,
        2 * CONNECTIONS +
          (contender.pollsPerSecond ?? 0) * (seconds + 1) +
          (contender.looksFirst ?? 0) * load.requests,
      )
    }
    const keys = await store.keys()
    const expected = Math.min(scenario.consumers, load.requests)
    if (keys < expected || keys > 2 * expected) wrong.push(`${keys} keys in Redis for ${expected} consumers`)
  }
  if (before) {
    const labels = { tidegate_service: scenario.prefix }
    const delta = (after, name, more = {}) =>
      after(name, { ...labels, ...more }) - before(name, { ...labels, ...more })
    const after = await contender.metrics()
    const total = (m) => delta(m, 'http_server_request_duration_seconds_count')
    counts('requests in /metrics', total(after), load.requests)
    counts(
      'decisions of the store in /metrics',
      ['store', 'cache'].reduce(
        (sum, by) => sum + delta(after, 'tidegate_limit_decisions_total', { decided_by: by }),
        0,
      ),
      load.requests,
    )
    counts(
      '429s in /metrics',
      delta(after, 'http_server_request_duration_seconds_count', { http_response_status_code: '429' }),
      load.refused,
    )
    const open = delta(after, 'tidegate_fail_open_total')
    if (open > 0) wrong.push(`${open} decisions were made without the store`)
  }
  if (contender.accessLines) {
    await sleep(300)
    counts('access log lines', contender.accessLines(), load.requests)
  }

  const perRequest = (ms) => (ms * 1000) / load.requests
  return {
    name: contender.name,
    cpu: perRequest(gateway),
    rate: load.requests / load.seconds,
    p50: load.p50,
    p99: load.p99,
    busy: gateway / (load.seconds * 1000),
    redis: perRequest(redis),
    others,
    wrong,
  }
}

/** Checks the responses that every contender must give before its time counts. */
async function probe(contender, upstream) {
  const hits = (await ask(upstream.child)).hits
  const call = async (prefix) => {
    const answer = await fetch(`${contender.url}/${prefix}/orders/1`, { headers: { 'x-user-id': 'probe' } })
    return { status: answer.status, headers: answer.headers, text: await answer.text() }
  }
  const fail = (what) => {
    throw new Error(`${contender.name} does not do the work: ${what}`)
  }
  const first = await call('open')
  if (first.status !== 200 || JSON.parse(first.text).id !== 'ord_81723') fail(`${first.status} ${first.text}`)
  if (!contender.withoutIds && !first.headers.get('x-request-id')) fail('no request id')
  if (contender.decisionCommand) {
    if (!first.headers.get('x-ratelimit-remaining')) fail('no rate limit fields')
    const [passed, denied] = [await call('denied'), await call('denied')]
    if (passed.status !== 200 || denied.status !== 429)
      fail(`limit of one: ${passed.status}, then ${denied.status}`)
    if (!denied.headers.get('retry-after')) fail('429 without Retry-After')
  }
  const seen = (await ask(upstream.child)).hits - hits
  if (seen !== (contender.decisionCommand ? 2 : 1)) fail(`the upstream saw ${seen} requests`)
}

/** Tidegate's share of a peer's CPU, round by round. */
function sharesOf(rounds, peer) {
  return rounds.flatMap((all) => {
    const [ours, theirs] = ['tidegate', peer].map((name) => all.find((r) => r.name === name))
    return ours === undefined || theirs === undefined ? [] : [ours.cpu / theirs.cpu]
  })
}

const two = (n) => n.toFixed(2)

function report(name, rounds) {
  const names = [...new Set(rounds.flat().map((r) => r.name))]
  const of = (who) => rounds.map((all) => all.find((r) => r.name === who))
  const row = (label, r, last) => [
    label,
    r.name,
    r.cpu.toFixed(1),
    Math.round(r.rate),
    r.p50.toFixed(2),
    r.p99.toFixed(2),
    `${Math.round(r.busy * 100)} %`,
    r.redis.toFixed(1),
    last,
  ]
  const mid = (who, key) => median(of(who).map((r) => r[key]))
  const share = (who) => {
    const all = who === 'tidegate' ? [] : sharesOf(rounds, who)
    return all.length === 0 ? '' : `${two(median(all))} (${two(Math.min(...all))}–${two(Math.max(...all))})`
  }
  printTable(
    [
      'round',
      'gateway',
      'CPU µs/req',
      'req/s',
      'p50 ms',
      'p99 ms',
      'its core',
      'Redis µs/req',
      'tidegate of it',
    ],
    [
      ...rounds.flatMap((all, i) => all.map((r) => row(i + 1, r, ''))),
      ...names.map((who) => {
        const m = { name: who }
        for (const key of ['cpu', 'rate', 'p50', 'p99', 'busy', 'redis']) m[key] = mid(who, key)
        return row('median', m, share(who))
      }),
    ],
  )
  const invalid = rounds.flat().filter((r) => r.wrong.length > 0)
  for (const r of invalid) console.log(`INVALID ${r.name}: ${r.wrong.join('; ')}`)
  const marks = Object.entries(MARKS[name]).flatMap(([peer, most]) => {
    const all = sharesOf(rounds, peer)
    if (all.length === 0) return []
    return [
      { name: `${name}: Tidegate ≤ ${most} of ${peer}`, figure: share(peer), holds: median(all) <= most },
    ]
  })
  console.log()
  const hold = printMarks(marks)
  const others = median(rounds.flat().map((r) => r.others))
  if (others > 0.03) {
    console.log(
      `The gateway's core was ${Math.round(others * 100)} % busy with others: take the figures as rough.`,
    )
  }
  const medians = Object.fromEntries(
    names.map((who) => [
      who,
      Object.fromEntries(
        ['cpu', 'rate', 'p50', 'p99', 'redis'].map((key) => [key, Number(mid(who, key).toFixed(3))]),
      ),
    ]),
  )
  return {
    scenario: name,
    valid: invalid.length === 0,
    ok: invalid.length === 0 && hold,
    medians,
    marks,
    others: Number(others.toFixed(3)),
  }
}

/** Returns whether every round was valid and the marks hold. */
export async function sideBySide(options) {
  const { rounds, seconds, warmup, scenarios, json } = options
  requireTools({ wrk: true })
  pinSelf()
  const store = await startStore()
  const upstream = await startUpstream()
  const machine = shape(store.version)
  console.log(
    `${machine}\n${CONNECTIONS} connections; ${rounds} rounds of ${seconds} s, each in new processes after ${warmup} s of warm-up; gateway on core 0, load, upstream and Redis on core 1`,
  )
  const done = Object.fromEntries(scenarios.map((name) => [name, []]))
  try {
    for (let i = 0; i < rounds; i++) {
      const contenders = await startContenders(options, upstream, store)
      try {
        for (const contender of contenders) {
          // Two Tidegates would share each other's counts.
          await store.clear()
          await probe(contender, upstream)
        }
        for (const name of scenarios) {
          const all = contenders.filter((c) => name === 'allowed' || c.decisionCommand)
          // There and back again, so that a machine that gets slower or faster favours none.
          const order = i % 2 ? [...all].reverse() : all
          const figures = []
          for (const c of order) {
            await round(c, SCENARIOS[name], warmup, { upstream, store })
            figures.push(await round(c, SCENARIOS[name], seconds, { upstream, store }))
          }
          done[name].push(all.map((c) => figures.find((f) => f.name === c.name)))
        }
      } finally {
        for (const c of contenders) await stop(c.child)
      }
      process.stderr.write(`round ${i + 1} of ${rounds}\n`)
    }
  } finally {
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
  const results = scenarios.map((name) => {
    console.log(`\n## ${name}: ${SCENARIOS[name].title}\n`)
    return report(name, done[name])
  })
  if (json) writeFileSync(json, `${JSON.stringify({ machine, rounds, seconds, results }, null, 2)}\n`)
  return results.every((r) => r.ok)
}

/**
 * New processes for every round: the same code in two processes differs by some percent for as long as they live, depending on
 * what the compiler made of it and where it lies in memory.
 */
async function startContenders({ only, profile, autoPipelining, before, nodeArgs = [] }, upstream, store) {
  const base = { dir: folder(), upstreamPort: upstream.port, redisPort: store.port }
  const wanted = (name) => only === undefined || only.includes(name)
  const limits = (text) => ({ open: text(OPEN_LIMIT), denied: text(1) })
  const contenders = []
  if (wanted('tidegate')) {
    const args = profile ? [...nodeArgs, '--cpu-prof', `--cpu-prof-dir=${profile}`] : nodeArgs
    contenders.push(await startTidegate({ ...base, services: limits((n) => `${n}/min`), nodeArgs: args }))
  }
  if (before !== undefined) {
    const cli = path.join(before, 'dist/cli/tidegate.js')
    contenders.push(
      await startTidegate({ ...base, services: limits((n) => `${n}/min`), name: 'before', cli }),
    )
  }
  for (const peer of ['pair', 'proxy']) {
    if (wanted(peer))
      contenders.push(await startPeer(peer, { ...base, services: limits((n) => n), autoPipelining }))
  }
  for (const floor of ['bare', 'http-proxy']) {
    if (wanted(floor)) contenders.push(await startFloor(floor, base))
  }
  const nginx = { ...base, services: limits((n) => n) }
  if (wanted('nginx') && hasNginx()) contenders.push(await startNginx(nginx))
  if (wanted('nginx-lua') && hasNginxLua()) contenders.push(await startNginx({ ...nginx, limited: true }))
  return contenders
}
