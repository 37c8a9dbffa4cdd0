import { type IncomingHttpHeaders, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { type Access, type AccessSettings, createAccess } from '../../../src/admin/access/access.js'
import { createAudit } from '../../../src/admin/access/audit.js'
import type { AdminDeps, AdminStore } from '../../../src/admin/deps.js'
import { createAdmin } from '../../../src/admin/server.js'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import { compileSnapshot, type Snapshot } from '../../../src/config/snapshot/snapshot.js'
import { createMemoryAuditStream } from '../../../src/fleet/audit-stream.js'
import { BANS, type Ban } from '../../../src/fleet/bans.js'
import { LONE_FLEET } from '../../../src/fleet/gateway-rpc.js'
import { createKeyStore } from '../../../src/fleet/keyring.js'
import { createMemoryLastUsed } from '../../../src/fleet/last-used.js'
import { AMOUNTS, createAmounts } from '../../../src/fleet/overrides.js'
import type { Ask } from '../../../src/fleet/question.js'
import { createMemoryMap, type ReplicatedMap } from '../../../src/fleet/replicated-map.js'
import { createStanding, type StandingDeps } from '../../../src/gateway/simulate/standing.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { createKeptDecisions } from '../../../src/telemetry/decisions/decision-store.js'
import { createFamilies } from '../../../src/telemetry/metrics/metric-definitions.js'
import { trafficOf } from '../../../src/telemetry/metrics/overview.js'
import { memoryAssignments, snapshotOf } from './gateway.js'

export const EXAMPLE = `
listen: 127.0.0.1:0
tiers: [free, pro, enterprise]
consumers:
  - api_key: { keys: [{ key: the-key-of-acme-inc, consumer: acme, tier: pro }] }
  - header: { name: x-user-id, from: anyone }
services:
  payments:
    upstreams: [http://127.0.0.1:9001]
    limits: { free: 10/min, pro: [5/s, 100/min], enterprise: 1000/min }
  marketing:
    upstreams: [http://127.0.0.1:9002]
    limits: { free: 60/min, pro: 600/min, enterprise: unlimited }
routes:
  - { path: /payments/*, service: payments }
  - { path: /marketing/*, service: marketing }
`

export interface TestAdmin {
  readonly app: FastifyInstance
  readonly port: number
  readonly deps: AdminDeps & TestStore
  readonly logged: { level: 'info' | 'warn' | 'error'; fields: object; message: string }[]
  call(method: string, path: string, options?: CallOptions): Promise<Answer>
}

/** The store of the test, with the map of the bans. */
type TestStore = Omit<AdminStore, 'bans'> & { readonly bans: ReplicatedMap<Ban> }

/** Parts that a test replaces. */
type Given = Partial<Omit<AdminDeps, 'store'>> &
  Partial<TestStore> &
  Partial<Pick<StandingDeps, 'tierSources' | 'seen'>> & {
    /** Parts of a process that serves requests, which answer what the routes ask. */
    readonly parts?: object
  }

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** Body, sent as JSON unless the headers say otherwise. */
  readonly body?: unknown
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into it
  readonly json: any
}

/** Start time of the counts' clock, unix ms: 15 s into a minute. */
export const NOW = 1_760_000_055_000

function exampleCompiled(): Snapshot {
  const result = loadConfig(EXAMPLE, { file: 'test.yaml', env: {} })
  if (!result.ok) throw new Error(result.errors.map(formatError).join('\n'))
  return compileSnapshot(result.config, NOW)
}

/** A configuration for `startAdmin` that does not change. */
export function configOf(yaml: string): AdminDeps['config'] {
  const compiled = snapshotOf(yaml)
  return {
    current: () => compiled,
    status: () => ({}),
    reload: () => Promise.resolve({ result: 'unchanged' as const }),
  }
}

/** Starts the admin server on a free port, over counts in memory whose clock stands still. Closes it when the test ends. */
export async function startAdmin(t: Test, given: Given = {}, host = '127.0.0.1'): Promise<TestAdmin> {
  const { tierSources, seen, parts, ...changes } = given
  const snapshot = exampleCompiled()
  const logged: TestAdmin['logged'] = []
  const note = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) =>
    void logged.push({ level, fields, message })
  const log = { info: note('info'), warn: note('warn'), error: note('error') }
  const stream = createMemoryAuditStream(() => NOW)
  const store: TestStore = {
    limiter: createMemoryLimiter({ now: () => NOW }),
    assignments: memoryAssignments(),
    amounts: createAmounts(createMemoryMap(AMOUNTS)),
    keys: createKeyStore(createMemoryMap, createMemoryLastUsed(100)),
    bans: createMemoryMap(BANS, { now: () => NOW }),
    maps: () => [],
    fleet: LONE_FLEET,
  }
  const all = { ...store, ...changes }
  const serving = {
    upstreams: { describe: () => [], setState: () => undefined },
    guards: { describe: () => [] },
    snapshot: () => snapshot,
    top: { read: () => ({ from: NOW - 45_000, to: NOW, missed: 0, groups: [] }) },
    decisions: createKeptDecisions({ keep: 0 }),
    ...parts,
  }
  const ask: Ask = async (question, body) => question.answer(serving as never, body)
  const deps: AdminDeps & TestStore = {
    ...store,
    config: {
      current: () => snapshot,
      status: () => ({ hash: snapshot.hash }),
      reload: () => Promise.resolve({ result: 'unchanged', messages: [] }),
    },
    store: () => ({ ...all, bans: { map: all.bans } }),
    ask,
    standing: createStanding({
      snapshot: () => (changes.config ?? { current: () => snapshot }).current(),
      store: () => all,
      tierSources,
      seen: seen ?? (async () => ({ seen: undefined, problem: undefined })),
    }),
    explain: () => Promise.reject(new Error('not asked')),
    metrics: {
      scrape: () => Promise.resolve('# HELP up Up.\n# TYPE up gauge\nup 1\n'),
      traffic: () => trafficOf(createFamilies()),
      limitCounts: () => [],
    },
    ready: () => ({ ready: true, reasons: [] }),
    audit: createAudit({ stream: () => stream, node: 'gw-1:4711', log, now: () => NOW }),
    access: accessOf({}),
    log,
    ...changes,
  }
  const app = createAdmin(deps)
  await app.listen({ host, port: 0 })
  t.teardown(() => app.close())
  const { port } = app.server.address() as AddressInfo
  return { app, port, deps, logged, call: (method, path, options) => call(port, method, path, options) }
}

/** Actors that may use it: one token that may do everything, or several tokens with roles. */
export function accessOf(settings: Partial<AccessSettings>, now: () => number = () => NOW): Access {
  const whole = { tokens: [], ...settings }
  return createAccess({ settings: () => whole, log: { info() {}, warn() {} }, now })
}

/** Sends a request; the path goes out as it is. */
export function call(
  port: number,
  method: string,
  path: string,
  { headers = {}, body }: CallOptions = {},
): Promise<Answer> {
  const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const outgoing = request({
      host: '127.0.0.1',
      port,
      method,
      path,
      agent: false,
      headers: {
        ...(payload === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
        ...headers,
      },
    })
    outgoing.on('error', reject)
    outgoing.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('error', reject)
      response.on('end', () => {
        const isJson = /json/.test(response.headers['content-type'] ?? '')
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: isJson && text !== '' ? JSON.parse(text) : undefined,
        })
      })
    })
    // As bytes: Node prepends the header to a text, and then writes both as UTF-8.
    outgoing.end(payload === undefined ? undefined : Buffer.from(payload))
  })
}
