/**
 * Tidegate beside its peers on one Redis and one upstream, in interleaved rounds: CPU per request of the gateway's
 * process, as ratios of one round each. A round in which a contender did not do all of the work fails the bench.
 */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { OPEN_LIMIT, startFloor, startPeer, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { hasNginx, hasNginxLua, startNginx } from '../contenders/nginx.mjs'
import { pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { folder, stop } from '../harness/process.mjs'
import { pollsOf, probe, round } from '../harness/round.mjs'
import { startStore } from '../harness/store.mjs'
import { median, printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

const CONNECTIONS = 64
/** Greatest share of a peer's CPU per request, by scenario. */
const MARKS = { allowed: { pair: 0.55, bare: 1.35 }, denied: { pair: 0.4 } }
const scenario = (title, service, consumers) => ({
  title,
  service,
  consumers,
  connections: CONNECTIONS,
  load: (url, seconds) => wrk({ url, connections: CONNECTIONS, seconds, consumers }),
})
const SCENARIOS = {
  allowed: scenario('10,000 consumers, nobody over the limit', 'open', 10_000),
  denied: scenario('100 consumers on one request a minute, nearly all denied', 'denied', 100),
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
        for (const contender of contenders) await probe(contender, upstream, store)
        const shared = { upstream, store, pollsPerSecond: pollsOf(contenders) }
        for (const name of scenarios) {
          const all = contenders.filter((c) => name === 'allowed' || c.decisionCommand)
          // There and back again, so that a machine that gets slower or faster favours none.
          const order = i % 2 ? [...all].reverse() : all
          const figures = []
          for (const c of order) {
            await round(c, SCENARIOS[name], warmup, shared)
            figures.push(await round(c, SCENARIOS[name], seconds, shared))
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
