/**
 * The contenders, each a process of its own on the gateway's core with the same upstream and the same Redis. Every one that
 * limits serves `/open/*` (a limit nobody reaches) and `/denied/*` (one a minute).
 */
import { openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { GATEWAY_CORE, LOAD_CORE } from '../harness/machine.mjs'
import { freePort, start, startScript, until } from '../harness/process.mjs'

export const OPEN_LIMIT = 1_000_000
const here = path.dirname(fileURLToPath(import.meta.url))
const ourCli = path.join(here, '../../dist/cli/tidegate.js')

/** Starts the upstream that all contenders stand in front of, on the core of the load. */
export const startUpstream = () => startScript(LOAD_CORE, path.join(here, 'upstream.mjs'))

/** Counts the newlines of a file that only grows, from where the last call ended. */
function lineCounter(file) {
  let from = 0
  return () => {
    if (statSync(file).size === from) return 0
    const text = readFileSync(file).subarray(from)
    from += text.length
    let lines = 0
    for (let at = text.indexOf(10); at !== -1; at = text.indexOf(10, at + 1)) lines++
    return lines
  }
}

/**
 * Metrics, request ids, access log to a file, counts in Redis: as in production, nothing turned off.
 * `services` maps a path prefix to a limit; `server` and `store` are settings of those parts of the configuration, `redis` the
 * address of the store where it is not one server, `tls` a certificate to serve HTTPS with, `more` further parts of the
 * configuration as text, `files` the limit of open files where it is not to be the shell's, `node` the Node to run it with.
 */
export async function startTidegate({
  dir,
  upstreamPort,
  redisPort,
  redis = `redis://127.0.0.1:${redisPort}`,
  services,
  node = process.execPath,
  nodeArgs = [],
  tls,
  server = [],
  store = [],
  files,
  routes = Object.keys(services).map((service) => ({ path: `/${service}/*`, service, strip: `/${service}` })),
  name = 'tidegate',
  cli = ourCli,
  more = '',
}) {
  const port = await freePort()
  const adminPort = await freePort()
  const config = path.join(dir, `${name}.yaml`)
  const accessLog = path.join(dir, `${name}-access.log`)
  const names = Object.keys(services)
  // A line for each request, denied ones too. An older checkout has no bound, and no such key.
  const schema = readFileSync(path.join(path.dirname(cli), '../../config/schema.json'), 'utf8')
  const unbounded = schema.includes('"max_errors"') ? '\n  max_errors: 0' : ''
  const certificates =
    tls === undefined ? [] : [`tls: { certificates: [{ cert: ${tls.cert}, key: ${tls.key} }] }`]
  writeFileSync(
    config,
    `listen: 127.0.0.1:${port}
admin:
  listen: 127.0.0.1:${adminPort}
store:
  redis: ${redis}
${store.map((line) => `  ${line}\n`).join('')}log:
  access: ${accessLog}${unbounded}
server: { ${['shutdown_delay: 0s', 'max_connections_per_client: 0', ...certificates, ...server].join(', ')} }
tiers: [free]
default_tier: free
consumers:
  - header: { name: x-user-id, from: anyone }
services:
${names.map((name) => `  ${name}:\n    upstreams: [http://127.0.0.1:${upstreamPort}]\n    max_waiting: 10000\n    limits: { free: ${services[name]} }`).join('\n')}
routes:
${routes.map((r) => `  - { path: ${r.path}, service: ${r.service}, strip_prefix: ${r.strip} }`).join('\n')}
${more}`,
  )
  const out = path.join(dir, `${name}.log`)
  const log = openSync(out, 'a')
  const command = [node, ...nodeArgs, cli, 'start', '--config', config]
  if (files !== undefined) command.unshift('prlimit', `--nofile=${files}:${files}`)
  const child = start(GATEWAY_CORE, command[0], command.slice(1), { stdio: ['ignore', log, log], cwd: dir })
  const adminUrl = `http://127.0.0.1:${adminPort}`
  await until(`Tidegate is ready (its output is in ${out})`, 60_000, () => {
    if (child.exitCode !== null)
      throw new Error(`Tidegate ended with ${child.exitCode}:\n${readFileSync(out, 'utf8')}`)
    return fetch(`${adminUrl}/readyz`).then(
      (answer) => answer.ok,
      () => false,
    )
  })

  const metrics = async () => parseMetrics(await (await fetch(`${adminUrl}/metrics`)).text())
  return {
    name,
    child,
    pid: child.pid,
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    metrics,
    accessLines: lineCounter(accessLog),
    /** Its script reads the one key of a decision with one GET, whatever the batch. */
    decisionCommand: 'get',
    /** It also polls for changed tiers, amounts, bans and keys. */
    pollsPerSecond: 10,
    /**
     * Greatest share of requests whose limits an older checkout (`--before`) reads separately, for explanations. Since
     * 2026-11-30 the reply of the decision has them.
     */
    looksFirst: 0.02,
    remembersDenials: true,
  }
}

export async function startPeer(mode, { upstreamPort, redisPort, services, node, autoPipelining = false }) {
  const job = {
    mode,
    upstream: `http://127.0.0.1:${upstreamPort}`,
    redisPort,
    limits: services,
    autoPipelining,
  }
  const script = path.join(here, 'pair.mjs')
  const peer = await startScript(GATEWAY_CORE, script, [JSON.stringify(job)], node)
  return {
    name: mode,
    ...peer,
    url: `http://127.0.0.1:${peer.port}`,
    decisionCommand: mode === 'pair' ? 'incr' : undefined,
  }
}

/** Starts `bare` or `http-proxy`: a proxy and nothing else. */
export async function startFloor(mode, { upstreamPort }) {
  const floor = await startScript(GATEWAY_CORE, path.join(here, 'floors.mjs'), [
    JSON.stringify({ mode, upstream: `http://127.0.0.1:${upstreamPort}` }),
  ])
  return { name: mode, ...floor, url: `http://127.0.0.1:${floor.port}`, withoutIds: true }
}

/** Parses Prometheus text. Returns a function that sums the series of a name whose labels contain all the given ones. */
function parseMetrics(text) {
  const series = []
  for (const line of text.split('\n')) {
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line)
    if (m) series.push({ name: m[1], labels: m[2] ?? '', value: Number(m[3]) })
  }
  return (name, labels = {}) =>
    series
      .filter(
        (s) => s.name === name && Object.entries(labels).every(([k, v]) => s.labels.includes(`${k}="${v}"`)),
      )
      .reduce((sum, s) => sum + s.value, 0)
}
