import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import type { InstanceHooks } from '../../../src/config/snapshot/extensions.js'
import { compileSnapshot, type Snapshot } from '../../../src/config/snapshot/snapshot.js'
import { createForwardAuth } from '../../../src/credentials/forward-auth.js'
import { createTokens } from '../../../src/credentials/tokens.js'
import type { TierAssignments } from '../../../src/fleet/assignments.js'
import { ASSIGNMENTS, createAssignments } from '../../../src/fleet/assignments.js'
import { AMOUNTS, type Amounts, createAmounts } from '../../../src/fleet/overrides.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import { buildGateway, type GatewayDeps } from '../../../src/gateway/app.js'
import { createWatchdog, type Watchdog } from '../../../src/gateway/exchange/watchdog.js'
import type { Decision, Limiter } from '../../../src/limiter/limiter.js'
import { createMemoryLimiter, type MemoryLimiter } from '../../../src/limiter/memory.js'
import { createShares } from '../../../src/shares.js'
import type { EdgeReason, MirrorResult, ShedReason } from '../../../src/telemetry/metrics/recorder.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'
import { createGuards, type Guards } from '../../../src/upstream/guard/guard.js'
import { createUpstreams, type Upstreams } from '../../../src/upstream/pool/pool.js'
import { decidingBy } from './limiter.js'
import { withPaths } from './paths.js'

/** A clock that stands still until a test moves it. Unix ms, at the start of a minute. */
export interface Clock {
  now: number
}

export function createClock(): Clock {
  return { now: 1_760_000_040_000 }
}

/** Throws the errors of the file as `tidegate check` prints them. */
export function snapshotOf(
  yaml: string,
  env: NodeJS.ProcessEnv = {},
  extensions?: ReadonlyMap<string, InstanceHooks>,
): Snapshot {
  const result = loadConfig(yaml, { file: 'test.yaml', env })
  if (!result.ok) throw new Error(result.errors.map(formatError).join('\n'))
  return compileSnapshot(result.config, Date.now(), undefined, extensions)
}

/** Tier assignments of one process, empty at first. */
export function memoryAssignments(): TierAssignments {
  return createAssignments(createMemoryMap(ASSIGNMENTS))
}

/** Boosts and overrides of one process, empty at first. */
export function memoryAmounts(now?: () => number): Amounts {
  return createAmounts(createMemoryMap(AMOUNTS, now && { now }), now)
}

export interface TestGateway {
  readonly app: FastifyInstance
  readonly port: number
  readonly origin: string
  /** The limiter's clock; no time passes in a quota unless a test moves it. */
  readonly clock: Clock
  readonly limiter: MemoryLimiter
  readonly assignments: TierAssignments
  readonly amounts: Amounts
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  /** Everything that was recorded, in order, each copied at that time. */
  readonly records: RequestRecord[]
  /** The records that also went into the access log. */
  readonly accessLines: RequestRecord[]
  /** Decisions of candidate limits, by request id. */
  readonly candidates: [requestId: string, decision: Decision][]
  /** Outcomes of copies for a second service. */
  readonly mirrored: [service: string, result: MirrorResult][]
  /** Tiers of shed requests, with the reason. */
  readonly shed: [tier: string, reason: ShedReason][]
  /** Requests that were denied at the edge. */
  readonly edgeDenied: EdgeReason[]
  /** Extension and hook of each failure. */
  readonly extensionErrors: [extension: string, hook: string][]
  readonly guards: Guards
  /** Returns how many exceptions were counted. */
  internalErrors(): number
  /** Events that the gateway logged, such as a stage that failed. Most tests expect none. */
  readonly logged: { fields: object; message: string }[]
  snapshot(): Snapshot
  /** Replaces the configuration for requests from now on. */
  use(yaml: string): void
  /** While true the gateway is draining. */
  drain(on: boolean): void
  /** Resolves when that many requests have been recorded. */
  recorded(count: number): Promise<void>
}

/** Parts in place of the usual ones. */
export type Overrides = Partial<
  Omit<GatewayDeps, 'limiter'> & {
    readonly limiter: Partial<Limiter>
    /** Hooks of the extensions in the configuration. */
    readonly extensions: ReadonlyMap<string, InstanceHooks>
  }
>

/**
 * Starts a gateway as `main.ts` wires it, on a free port, with counts in memory and collectors in place of metrics and log. Everything is
 * closed when the test ends.
 */
export async function startGateway(t: Test, yaml: string, overrides: Overrides = {}): Promise<TestGateway> {
  const { extensions } = overrides
  let current = snapshotOf(withPaths(yaml), {}, extensions)
  let draining = false
  const clock = createClock()
  const limiter = createMemoryLimiter({ now: () => clock.now })
  const assignments = memoryAssignments()
  const amounts = memoryAmounts(() => clock.now)
  const shares = overrides.shares ?? createShares()
  const upstreams = createUpstreams(current, { shares })
  const tokens = createTokens({ log: { info() {}, warn() {} } })
  const forwardAuth = createForwardAuth({ log: { info() {}, warn() {} }, shares })
  const watchdog = overrides.watchdog ?? createWatchdog(20)
  const records: RequestRecord[] = []
  const accessLines: RequestRecord[] = []
  const candidates: TestGateway['candidates'] = []
  const mirrored: TestGateway['mirrored'] = []
  const shed: TestGateway['shed'] = []
  const edgeDenied: EdgeReason[] = []
  const extensionErrors: TestGateway['extensionErrors'] = []
  const guards = createGuards()
  let internalErrors = 0
  const logged: TestGateway['logged'] = []
  let wake: (() => void) | undefined
  const app = buildGateway({
    snapshot: () => current,
    assignments,
    tokens,
    forwardAuth,
    amounts,
    upstreams,
    shares,
    watchdog,
    guards,
    // A shedder that never sheds.
    overload: { pressure: 0, sheds: () => undefined },
    metrics: {
      record(r) {
        records.push({ ...r })
        wake?.()
      },
      candidate: (r, decision) => void candidates.push([r.requestId, decision]),
      internalError: () => void internalErrors++,
      mirrored: (service, result) => void mirrored.push([service, result]),
      shed: (r, reason) => void shed.push([r.snapshot.tiers[r.tier]!, reason]),
      edgeDenied: (reason) => void edgeDenied.push(reason),
      extensionFailed: (...failed) => void extensionErrors.push(failed),
    },
    top: { record() {} },
    accessLog: { write: (r) => void accessLines.push({ ...r }) },
    log: {
      error: (fields, message) => void logged.push({ fields, message }),
      warn: (fields, message) => void logged.push({ fields, message }),
    },
    draining: () => draining,
    ...overrides,
    // A decision from memory alone is settled where the counts are.
    limiter: {
      ...limiter,
      ...(overrides.limiter?.take && { decide: decidingBy(overrides.limiter.take) }),
      ...overrides.limiter,
    },
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(async () => {
    app.server.closeAllConnections()
    await app.close()
    await upstreams.close()
    tokens.close()
    forwardAuth.close()
    watchdog.close()
  })
  const { port } = app.server.address() as AddressInfo
  return {
    app,
    port,
    origin: `http://127.0.0.1:${port}`,
    clock,
    limiter,
    assignments,
    amounts,
    upstreams,
    watchdog,
    records,
    accessLines,
    candidates,
    mirrored,
    shed,
    edgeDenied,
    extensionErrors,
    guards,
    internalErrors: () => internalErrors,
    logged,
    snapshot: () => current,
    use(next) {
      current = snapshotOf(withPaths(next), {}, extensions)
      upstreams.retain(current)
    },
    drain(on) {
      draining = on
    },
    async recorded(count) {
      while (records.length < count) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}
