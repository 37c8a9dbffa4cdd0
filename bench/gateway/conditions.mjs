/**
 * `npm run bench -- conditions`: Tidegate beside nginx + Lua on one Redis, in each condition that has a mark. A row starts its
 * contenders anew for every round, and they take turns: CPU per request of the gateway's process, as a ratio of the medians.
 */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { OPEN_LIMIT, startPeer, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { hasNginxLua, startNginx } from '../contenders/nginx.mjs'
import { certificate } from '../harness/certificate.mjs'
import { generate, wrongs } from '../harness/generate.mjs'
import { h2load } from '../harness/h2load.mjs'
import { LOAD_CORE, pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { folder, startScript, stop } from '../harness/process.mjs'
import { encryptionOf, pollsOf, probe, round } from '../harness/round.mjs'
import { startCluster, startStore } from '../harness/store.mjs'
import { median, printTable, textBetween, writeBetween } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

const README = fileURLToPath(new URL('../README.md', import.meta.url))
const RATE = 4000
const PACED_CLIENTS = 64
const NGINX = 'nginx-lua'

/** The load of a closed loop by wrk: `more` are options of `wrk`. */
function closed(connections, more = {}, service = 'open', consumers = 10_000) {
  const load = (url, seconds) => wrk({ url, connections, seconds, consumers, ...more })
  return { service, consumers, connections, load, up: more.upload }
}

/** The load of a closed loop that asks for bodies of 10 KB. */
const tenKb = () => ({ ...closed(64, { tail: 'body/10240' }), down: 10_240 })

/** The row of an HTTP/2 load with that many requests in progress on each connection. */
function http2Row(connections, streams) {
  const load = (url, seconds) => h2load({ url, connections, streams, seconds })
  return {
    what: `HTTP/2 with TLS, ${connections} connections of ${streams === 1 ? 'one stream' : `${streams} streams`}`,
    tls: true,
    http2: true,
    // h2load has one consumer, whose requests Tidegate would otherwise send to Redis as one.
    store: ['merge: false'],
    most: { [NGINX]: 1.5 },
    scenario: () => ({ service: 'open', consumers: 1, connections: connections * streams, load }),
  }
}

/** The load of an open loop at a constant rate, whose latencies count from when a request was due. */
function paced(service, generator) {
  async function load(url, seconds) {
    const job = { url, clients: PACED_CLIENTS, rate: RATE, seconds, warmup: 0 }
    const seen = await generate(await generator(), job)
    const [wrong] = wrongs(seen)
    if (wrong !== undefined) throw new Error(`open loop: ${wrong}`)
    const { p50, p99 } = seen.latency
    return { requests: seen.sent, seconds: seen.tookMs / 1000, refused: seen.limited, broken: 0, p50, p99 }
  }
  return { service, consumers: PACED_CLIENTS, connections: 1, load }
}

/**
 * The rows: `most` is the greatest share of each peer's CPU, `scenario` the load. `tls` and `http2` are how clients connect;
 * `alone` puts another Tidegate on one Redis beside the one on a Cluster, and `latency` compares percentiles, too.
 */
const ROWS = {
  small: {
    what: 'small GET, 64 connections',
    most: { [NGINX]: 0.95, pair: 0.3 },
    scenario: () => closed(64),
  },
  denied: {
    what: 'denied, 64 connections',
    most: { [NGINX]: 0.65, pair: 0.45 },
    scenario: () => closed(64, {}, 'denied', 100),
  },
  tls: { what: 'TLS, small GET', tls: true, most: { [NGINX]: 1.15 }, scenario: () => closed(64) },
  'tls-10kb': {
    what: 'TLS, 10 KB',
    tls: true,
    most: { [NGINX]: 1.3 },
    scenario: tenKb,
  },
  '8-connections': { what: 'small GET, 8 connections', most: { [NGINX]: 1.2 }, scenario: () => closed(8) },
  'open-loop': {
    what: `${RATE} requests a second, open loop, ${PACED_CLIENTS} connections`,
    latency: true,
    most: { [NGINX]: 1.3 },
    scenario: (generator) => paced('open', generator),
  },
  '10kb': { what: '10 KB', most: { [NGINX]: 1.1 }, scenario: tenKb },
  post: { what: 'POST of 512 B', most: { [NGINX]: 1.1 }, scenario: () => closed(64, { upload: 512 }) },
  chunked: {
    what: 'chunked response of the upstream',
    most: { [NGINX]: 1.1 },
    scenario: () => closed(64, { tail: 'chunked/%d' }),
  },
  http2: http2Row(16, 4),
  'http2-single': http2Row(64, 1),
  cluster: {
    what: 'Redis Cluster of 3',
    alone: true,
    most: { 'one-redis': 1.08 },
    scenario: () => closed(64),
  },
}

const ROW_NAMES = Object.keys(ROWS)

/** Starts what a row compares, Tidegate first. Each has the store in which its decisions are counted. */
async function startContenders(
  row,
  { only, before, node, nodeArgs, profile },
  { upstream, store, cluster, tls },
) {
  const base = {
    dir: folder(),
    upstreamPort: upstream.port,
    redisPort: store.port,
    node,
    tls: row.tls ? tls : undefined,
  }
  const ours = {
    ...base,
    services: { open: `${OPEN_LIMIT}/min`, denied: '1/min', free: 'unlimited' },
    server: row.http2 ? ['http2: true'] : [],
    store: row.store ?? [],
    nodeArgs,
    redis: cluster?.url,
  }
  const theirs = { ...base, services: { open: OPEN_LIMIT, denied: 1 }, limited: true, http2: row.http2 }
  const wanted = (name) => only === undefined || only.includes(name)
  const started = []
  const add = async (contender, at = store) => void started.push({ ...(await contender), store: at })
  const flags = profile ? [...(nodeArgs ?? []), '--cpu-prof', `--cpu-prof-dir=${profile}`] : nodeArgs
  await add(startTidegate({ ...ours, nodeArgs: flags }), cluster)
  if (before !== undefined) {
    await add(
      startTidegate({ ...ours, name: 'before', cli: path.join(before, 'dist/cli/tidegate.js') }),
      cluster,
    )
  }
  if (row.alone) await add(startTidegate({ ...ours, redis: undefined, name: 'one-redis' }))
  if (row.most[NGINX] !== undefined && wanted(NGINX)) await add(startNginx(theirs))
  if (row.most.pair !== undefined && wanted('pair')) await add(startPeer('pair', theirs))
  return started
}

/** Runs all rounds of a row. Resolves with a list of figures for each contender, by its name. */
async function measure(name, options, shared) {
  const row = ROWS[name]
  const { rounds, seconds, warmup } = options
  const { upstream, generator } = shared
  const scenario = row.scenario(generator)
  const cluster = row.alone ? await startCluster(3) : undefined
  const figures = {}
  try {
    for (let i = 0; i < rounds; i++) {
      const contenders = await startContenders(row, options, { ...shared, cluster })
      try {
        for (const contender of contenders) await probe(contender, upstream, contender.store)
        const pollsPerSecond = pollsOf(contenders)
        if (row.tls) await sameEncryption(contenders, row.http2 ? 'h2' : 'http/1.1')
        const jobs = contenders.map((contender) => ({ contender, label: contender.name, what: scenario }))
        if (row.latency) {
          const direct = { name: 'direct', url: `http://127.0.0.1:${upstream.port}`, store: shared.store }
          jobs.push({ contender: direct, label: 'direct', what: paced('open', generator) })
          jobs.push({ contender: contenders[0], label: 'unlimited', what: paced('free', generator) })
        }
        // There and back again, so that a machine that gets slower or faster favours none.
        for (const { contender, label, what } of i % 2 ? jobs.reverse() : jobs) {
          const run = (length) =>
            round(contender, what, length, { upstream, store: contender.store, pollsPerSecond })
          await run(warmup)
          figures[label] ??= []
          figures[label].push(await run(seconds))
        }
      } finally {
        for (const c of contenders) await stop(c.child)
      }
      process.stderr.write(`${name}: round ${i + 1} of ${rounds}\n`)
    }
  } finally {
    await cluster?.stop()
  }
  return figures
}

/** Throws unless all contenders negotiate the same with the same client. */
async function sameEncryption(contenders, protocol) {
  const all = await Promise.all(contenders.map(encryptionOf))
  if (all.some((one) => one !== all[0]))
    throw new Error(`the contenders encrypt differently: ${all.join('; ')}`)
  if (protocol === 'h2' && !all[0].includes('h2')) throw new Error(`no HTTP/2: ${all[0]}`)
}

const mid = (figures, key) => median(figures.map((f) => f[key]))
const two = (n) => (Number.isNaN(n) ? '' : n.toFixed(2))

/** Returns the share of the medians, and the least and the most of the rounds. */
function shareOf(ours, theirs) {
  const each = ours.map((f, i) => f.cpu / theirs[i].cpu)
  const share = mid(ours, 'cpu') / mid(theirs, 'cpu')
  return { share, text: `${two(share)} (${two(Math.min(...each))}–${two(Math.max(...each))})` }
}

/** Returns the marks of a row: of CPU, and in the open loop of latency. */
function marksOf(name, figures) {
  const { most, latency } = ROWS[name]
  const marks = Object.entries(most).flatMap(([peer, limit]) => {
    if (figures[peer] === undefined) return []
    const { share, text } = shareOf(figures.tidegate, figures[peer])
    return [
      { name: `${name}: ≤ ${limit} of ${peer}`, peer, mark: limit, figure: text, holds: share <= limit },
    ]
  })
  if (!latency) return marks
  const p50 = (who) => mid(figures[who], 'p50') - mid(figures.direct, 'p50')
  const limiter = mid(figures.tidegate, 'p99') - mid(figures.unlimited, 'p99')
  if (figures[NGINX] !== undefined) {
    marks.push({
      name: `${name}: added p50 ≤ ${two(p50(NGINX))} ms, that of ${NGINX}`,
      peer: `${NGINX}, added p50`,
      mark: `${two(p50(NGINX))} ms`,
      figure: `${two(p50('tidegate'))} ms`,
      holds: p50('tidegate') <= p50(NGINX),
    })
  }
  marks.push({
    name: `${name}: p99 ≤ 1 ms by the limiter`,
    peer: 'itself without limits, p99',
    mark: '1 ms more',
    figure: `${two(limiter)} ms (${two(mid(figures.tidegate, 'p99'))} and ${two(mid(figures.unlimited, 'p99'))})`,
    holds: limiter <= 1,
  })
  return marks
}

/** Prints what each contender of a row took, and its share. Returns whether the marks hold and every round was valid. */
function report(name, figures) {
  console.log(`\n## ${name}: ${ROWS[name].what}\n`)
  printTable(
    [
      'contender',
      'CPU µs/req',
      'min',
      'max',
      'req/s',
      'p50 ms',
      'p99 ms',
      'Redis µs/req',
      'tidegate of it',
      'others on core',
    ],
    Object.entries(figures).map(([who, all]) => [
      who,
      mid(all, 'cpu').toFixed(1),
      Math.min(...all.map((f) => f.cpu)).toFixed(1),
      Math.max(...all.map((f) => f.cpu)).toFixed(1),
      Math.round(mid(all, 'rate')),
      two(mid(all, 'p50')),
      two(mid(all, 'p99')),
      mid(all, 'redis').toFixed(1),
      who === 'tidegate' || who === 'direct' ? '' : shareOf(figures.tidegate, all).text,
      `${Math.round(mid(all, 'others') * 100)} %`,
    ]),
  )
  console.log()
  const invalid = Object.values(figures)
    .flat()
    .filter((f) => f.wrong.length > 0)
  for (const f of invalid) console.log(`INVALID ${f.name}: ${f.wrong.join('; ')}`)
  const marks = marksOf(name, figures)
  const hold = printMarks(marks)
  return { row: name, ok: hold && invalid.length === 0, valid: invalid.length === 0, marks, figures }
}

const COLUMNS = ['condition', 'CPU µs/request', 'compared with', 'of it', 'mark', '']

/** Returns the lines of a row in the table of all rows, one for each mark. */
function cellsOf({ row, figures, marks }) {
  return marks.map(({ peer, figure, mark, holds }, i) => [
    i === 0 ? ROWS[row].what : '',
    i === 0 ? mid(figures.tidegate, 'cpu').toFixed(1) : '',
    peer,
    figure,
    `≤ ${mark}`,
    holds ? 'holds' : '**missed**',
  ])
}

/** Puts the rows into the table of bench/README.md for this Node, in place of older ones of the same conditions. */
function write(results, machine, version) {
  const name = `conditions on Node ${version.split('.')[0]}`
  const lines = textBetween(README, name)
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| ---') && !line.startsWith('| condition'))
  const groups = {}
  let last
  for (const cells of lines.map((line) => line.slice(2, -2).split(' | '))) {
    if (cells[0] !== '') last = cells[0]
    groups[last] ??= []
    groups[last].push(cells)
  }
  for (const result of results) groups[ROWS[result.row].what] = cellsOf(result)
  const rows = Object.values(ROWS).flatMap(({ what }) => groups[what] ?? [])
  const line = (cells) => `| ${cells.join(' | ')} |`
  const table = [COLUMNS, ['---', '---:', '---', '---:', '---', '---'], ...rows].map(line)
  writeBetween(README, name, [machine, '', ...table].join('\n'))
}

/** Returns whether every round was valid and the marks hold. */
export async function conditions(options) {
  const { rows = ROW_NAMES, rounds, seconds, warmup, json, only, node } = options
  const unknown = rows.find((name) => !Object.hasOwn(ROWS, name))
  if (unknown !== undefined)
    throw new Error(`--row: there is no row ${unknown}; there are ${ROW_NAMES.join(', ')}`)
  requireTools({ wrk: true })
  if ((only === undefined || only.includes(NGINX)) && !hasNginxLua()) {
    throw new Error(
      'conditions compares with nginx and Lua: install nginx, libnginx-mod-http-lua and lua-nginx-redis, or leave it out with --only tidegate',
    )
  }
  pinSelf()
  const store = await startStore()
  const upstream = await startUpstream()
  let load
  const generator = async () => {
    load ??= await startScript(
      LOAD_CORE,
      fileURLToPath(new URL('../harness/paced-load.mjs', import.meta.url)),
    )
    return load
  }
  const tls = certificate(folder())
  const version =
    node === undefined
      ? process.versions.node
      : spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim().slice(1)
  const machine = shape(store.version, version)
  console.log(
    `${machine}\n${rounds} rounds of ${seconds} s, each in new processes after ${warmup} s of warm-up; gateway on core 0, load, upstream and Redis on core 1`,
  )
  const results = []
  try {
    for (const name of rows) {
      results.push(report(name, await measure(name, options, { upstream, store, generator, tls })))
    }
  } finally {
    if (load !== undefined) await stop(load.child, 'SIGKILL')
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
  console.log('\n## All rows\n')
  printTable(COLUMNS, results.flatMap(cellsOf))
  const valid = results.every((r) => r.valid)
  if (options.write && valid) write(results, machine, version)
  else if (options.write) console.log('\nNot written: a round was not valid.')
  if (json) writeFileSync(json, `${JSON.stringify({ machine, rounds, seconds, results }, null, 2)}\n`)
  return results.every((r) => r.ok)
}
