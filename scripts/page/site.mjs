// A small fleet with believable consumers, for pictures of the page: three gateways in this process, on a Redis of their own.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, createServer, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGateway } from '../../dist/main.js'
import { createLog } from '../../dist/telemetry/logs/log.js'

export const TOKENS = {
  viewer: 'the-token-of-vera-the-viewer',
  support: 'the-token-of-sam-at-support',
  operator: 'the-token-of-olga-on-call',
}

const INSTANCES = ['gw-fra-1', 'gw-fra-2', 'gw-ams-1']

/** Consumers with their key, tier, and share of the traffic. */
const CONSUMERS = [
  ['acme', 'pro', 70],
  ['globex', 'enterprise', 22],
  ['initech', 'pro', 9],
  ['umbrella', 'free', 7],
  ['hooli', 'enterprise', 6],
  ['stark-industries', 'pro', 5],
  ['wayne-enterprises', 'pro', 3],
  ['soylent', 'free', 3],
  ['cyberdyne', 'free', 2],
  ['wonka', 'free', 1],
]

const keyOf = (consumer) => `the-key-of-${consumer}-0123456789`

function configOf({ instance, folder, redis, ports }) {
  const keys = CONSUMERS.map(
    ([consumer, tier]) =>
      `        - { key: ${keyOf(consumer)}, consumer: ${consumer}, tier: ${tier}${consumer === 'acme' ? ', tenant: acme-group' : ''} }`,
  ).join('\n')
  return `instance: ${instance}
listen: 127.0.0.1:0
admin:
  listen: 127.0.0.1:0
  tokens:
    - { name: vera, role: viewer, token: ${TOKENS.viewer} }
    - { name: sam, role: support, token: ${TOKENS.support} }
    - { name: olga, role: operator, token: ${TOKENS.operator} }
log: { access: "off" }
store: { redis: "${redis}", on_failure: local, timeout: 1s }
decisions: { keep: 5000, sample: 1 }
server: { shed: { event_loop_delay: 0 } }
metering:
  every: 1m
  spool: { path: ${join(folder, `usage`)}, size: 64MiB }
  to: { file: { path: ${join(folder, `usage.jsonl`)} } }
  by: [consumer, service, tier]
tiers: [free, pro, enterprise]
default_tier: free
consumers:
  - api_key:
      header: x-api-key
      store: {}
      keys:
${keys}
  - header: { name: x-user-id, from: anyone }
services:
  payments:
    upstreams: [http://127.0.0.1:${ports[0]}, http://127.0.0.1:${ports[1]}]
    limits:
      free: 20/min
      pro:
        - 300/min
        - { amount: 50000, algorithm: calendar, period: day }
        - { amount: 150, window: 1m, candidate: true }
      enterprise: 6000/min
  reports:
    upstreams: [http://127.0.0.1:${ports[2]}]
    limits: { free: 10/min, pro: 60/min, enterprise: 600/min }
  search:
    upstreams: [http://127.0.0.1:${ports[3]}]
    limits: { free: 60/min, pro: 1200/min, enterprise: unlimited }
routes:
  - { path: /payments/*, service: payments }
  - { path: /payments/refunds, methods: [POST], service: payments, cost: 5 }
  - { path: /reports/*, service: reports }
  - { path: /search, service: search }
`
}

const PATHS = [
  ['/payments/4711', 6],
  ['/payments/refunds', 1],
  ['/search?q=invoice', 4],
  ['/reports/2026-11', 1],
]

/**
 * Starts the fleet, and sends it requests until it is stopped.
 *
 * @param perSecond requests that are sent a second
 * @returns `{ admin, gateways, configFiles, redis, stop }`: base URLs of the admin APIs, the first gateway's first
 */
export async function startSite({ instances = INSTANCES, perSecond = 60 } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-site-'))
  const closing = []
  const stop = async () => {
    for (const close of closing.reverse()) await close()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    const redis = await startRedis(folder)
    closing.push(redis.stop)
    const backends = await Promise.all([0, 1, 2, 3].map(() => startBackend()))
    closing.push(() => Promise.all(backends.map((one) => one.close())))
    const ports = backends.map(({ port }) => port)
    const gateways = []
    const configFiles = []
    for (const instance of instances) {
      const configFile = join(folder, `${instance}.yaml`)
      writeFileSync(configFile, configOf({ instance, folder, redis: redis.url, ports }))
      const events = createLog({ level: 'info', destination: join(folder, `${instance}.log`) })
      const gateway = await startGateway({ configFile, events })
      closing.push(() => gateway.close(0))
      gateways.push(gateway)
      configFiles.push(configFile)
    }
    const admin = gateways.map((gateway) => gateway.adminAddress)
    await untilUp(admin)
    const load = startLoad(
      gateways.map((gateway) => gateway.address),
      perSecond,
    )
    closing.push(load.stop)
    return { admin, gateways, configFiles, redis, backends, ask: load.ask, askAs: load.askAs, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Changes what support desks and operators change: a tier for a week, a boost, keys, an override, a drained upstream. */
export async function changeThings(admin) {
  const change = async (method, path, body, reason) => {
    const response = await fetch(`${admin}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${TOKENS.operator}`,
        'x-reason': reason,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
    return response.json().catch(() => undefined)
  }
  await change(
    'PUT',
    '/consumers/acme/tier',
    { tier: 'pro', for: '7d' },
    'trial of the pro plan, ticket 4711',
  )
  const minute = (consumer) => `/payments/minute/consumer/${consumer}`
  await change('PUT', `/boosts${minute('acme')}`, { by: 100, for: '1h' }, 'launch day, ticket 4711')
  await change('PUT', `/overrides${minute('globex')}`, { amount: 8000, for: '30d' }, 'contract 2026-88')
  await change(
    'POST',
    '/keys',
    { consumer: 'acme', name: 'mobile app', tier: 'pro', expires_in: '90d' },
    'key of the mobile app',
  )
  await change(
    'POST',
    '/keys',
    { consumer: 'acme', name: 'back office', tier: 'pro' },
    'key of the back office',
  )
  return change
}

async function startRedis(folder) {
  const port = await freePort()
  const plain = ['--save', '', '--appendonly', 'no', '--bind', '127.0.0.1', '--dir', folder]
  const child = spawn('redis-server', ['--port', String(port), ...plain], { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const exited = once(child, 'exit')
  for (let tries = 0; !(await opens(port)); tries++) {
    if (child.exitCode !== null || tries > 600) throw new Error('redis-server did not start')
    await sleep(50)
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    child,
    stop: () => {
      process.off('exit', kill)
      child.kill('SIGCONT')
      kill()
      return exited
    },
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

function opens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => resolve(true))
    socket.on('error', () => resolve(false))
    socket.on('close', () => socket.destroy())
    socket.on('connect', () => socket.end())
  })
}

async function startBackend() {
  const server = createServer((incoming, outgoing) => {
    incoming.resume()
    // Most take a few ms, some much longer, as services do.
    setTimeout(
      () => {
        outgoing.writeHead(Math.random() < 0.004 ? 502 : incoming.url.includes('missing') ? 404 : 200, {
          'content-type': 'application/json',
        })
        outgoing.end('{"ok":true}')
      },
      4 + 12 * Math.random() ** 4 + (Math.random() < 0.02 ? 60 : 0),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: server.address().port,
    close: () => {
      server.closeAllConnections()
      return new Promise((done) => {
        server.close(done)
      })
    },
  }
}

async function untilUp(admin) {
  for (let tries = 0; tries < 600; tries++) {
    const texts = await Promise.all(
      admin.map((base) => fetch(`${base}/readyz`).then((response) => response.text())),
    )
    if (texts.every((text) => /"store":"up","reasons":\[\]/.test(text))) return
    await sleep(50)
  }
  throw new Error('the gateways did not become ready')
}

function pick(weighted) {
  const sum = weighted.reduce((all, entry) => all + entry.at(-1), 0)
  let left = Math.random() * sum
  return (
    weighted.find((entry) => {
      left -= entry.at(-1)
      return left < 0
    }) ?? weighted[0]
  )
}

function startLoad(addresses, perSecond) {
  const agent = new Agent({ keepAlive: true, maxSockets: 20 })
  /** Sends one request; resolves with its status and request id. */
  const ask = (base, path, consumer, method = 'GET', headers = { 'x-api-key': keyOf(consumer) }) =>
    new Promise((resolve) => {
      const sent = request(`${base}${path}`, { agent, method, headers })
      sent.on('response', (response) => {
        response.resume()
        response.on('end', () =>
          resolve({ status: response.statusCode, id: response.headers['x-request-id'] }),
        )
        response.on('error', () => resolve({ status: 0 }))
      })
      sent.on('error', () => resolve({ status: 0 }))
      sent.end()
    })
  const timer = setInterval(() => {
    for (let i = 0; i < perSecond / 10; i++) {
      const [path] = pick(PATHS)
      const [consumer] = pick(CONSUMERS)
      ask(
        addresses[Math.floor(Math.random() * addresses.length)],
        path,
        consumer,
        path.endsWith('refunds') ? 'POST' : 'GET',
      )
    }
  }, 100)
  return {
    ask: (path, consumer) => ask(addresses[0], path, consumer),
    askAs: (path, id) =>
      ask(addresses[0], path, undefined, 'GET', { 'x-user-id': Buffer.from(id).toString('latin1') }),
    stop: () => {
      clearInterval(timer)
      agent.destroy()
    },
  }
}
