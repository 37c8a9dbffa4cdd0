import { createHash, randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { type AccessSettings, createAccess } from '../../admin/access/access.js'
import { createAudit } from '../../admin/access/audit.js'
import { askForLines } from '../../admin/access/audit-line.js'
import type { AdminLog } from '../../admin/deps.js'
import { createAdmin } from '../../admin/server.js'
import { compileSnapshot, type Snapshot } from '../../config/snapshot/snapshot.js'
import { createTokens } from '../../credentials/tokens.js'
import { createKeyring } from '../../fleet/keyring.js'
import { openStore } from '../../fleet/open-store.js'
import { createExplain } from '../../gateway/simulate/explain.js'
import { createStanding } from '../../gateway/simulate/standing.js'
import { createDecisionsOfAll } from '../../telemetry/decisions/all-gateways-decisions.js'
import { createSeenOfAll } from '../../telemetry/decisions/all-gateways-seen.js'
import { createFamilies } from '../../telemetry/metrics/metric-definitions.js'
import { trafficOf } from '../../telemetry/metrics/overview.js'
import { createTopOfAll } from '../../telemetry/top/all-gateways-top.js'
import { createPlans } from '../../tier-sources/tier-sources.js'
import { type CommandIo, Refused } from '../command.js'
import { configFile, readGoodConfig } from '../config-file.js'
import { personHere } from '../current-user.js'
import { inTime } from '../in-time.js'
import { complain } from '../print/terminal.js'
import { adminAt, formatAdmin, orAskAdmin } from './admin-option.js'
import { type AdminAddress, askAdmin, isSilence, noAnswer } from './ask-admin.js'

/**
 * Admin API for the operator's commands. With Redis, this process serves the API to itself, over the store that the
 * gateways share. Without, the counts are in the gateway's memory, so the gateway is asked. Both give the same answers.
 */
export interface Control {
  /**
   * Resolves with the body of the response. Rejects with Refused, which says why and what to do. `path` is
   * percent-encoded.
   *
   * @param patienceMs longest wait without any activity, in ms. Default: 5 s.
   */
  call<T = object>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    body?: object,
    patienceMs?: number,
  ): Promise<T>
  /** Resolves with the names of the services. */
  services(): Promise<readonly string[]>
  close(): Promise<void>
}

const IN_ITS_LOG = "it is done, but not in the audit of the store; the gateway's log alone has it"

/** Longest wait for the first answer of the store, in ms. */
const PATIENCE = 5000
/** Longest wait, in ms, once the store has reported an error: another of its addresses may answer. */
const PATIENCE_AFTER_ERROR = 300
/** Longest wait for a gateway that may not run, in ms. */
const PROBE_PATIENCE = 500

/** Opens the admin API. Commands use it through `withControl`. */
export async function openControl(io: CommandIo, command: string, options: ControlOptions): Promise<Control> {
  const { config: option, admin, reason, whose = 'store' } = options
  // The file is not read: it may be invalid by now, or the environment may be another one.
  if (admin !== undefined) {
    const at = adminAt(io, command, admin, option)
    const control = controlOf(io, command, reason, {
      address: at,
      unreachable: (error) => noAnswer(formatAdmin(at), error),
      unauthorized: tokenWanted(formatAdmin(at), at),
      onlyLogged: () => IN_ITS_LOG,
      close: () => Promise.resolve(),
    })
    return { ...control, services: () => servicesOf(control) }
  }
  const file = configFile(io, command, option)
  const snapshot = compileSnapshot(readGoodConfig(io, command, file, orAskAdmin(command)), Date.now())
  const overStore =
    snapshot.config.store.redis !== undefined &&
    (whose === 'store' ||
      (whose === 'any' && !(await answers(snapshot, io.env))) ||
      (whose === 'reader' && !(await lets(snapshot, file, io.env))))
  const opened = overStore
    ? await adminOverStore(command, file, snapshot)
    : gatewayOf(io, command, file, snapshot, whose)
  const names = snapshot.services.map(({ name }) => name)
  return { ...controlOf(io, command, reason, opened), services: () => Promise.resolve(names) }
}

function controlOf(
  io: CommandIo,
  command: string,
  reason: string | undefined,
  { address, unreachable, unauthorized, onlyLogged, close }: Opened,
) {
  return {
    async call<T>(method: string, path: string, body?: object, patienceMs?: number) {
      const { status, text, recorded } = await askAdmin(
        address,
        method,
        path,
        body,
        reason,
        patienceMs,
      ).catch((error: Error) => {
        throw new Refused(`tidegate ${command}: ${unreachable(error)}`)
      })
      if (recorded === 'logged') complain(io, `tidegate ${command}: ${onlyLogged()}`)
      const answer = parse(text)
      if (status === 200 && answer !== undefined) return answer as T
      if (status === 401 && unauthorized !== undefined)
        throw new Refused(`tidegate ${command}: ${unauthorized}`)
      const { detail } = (answer ?? {}) as { detail?: unknown }
      const problem = typeof detail === 'string' ? detail : `the gateway answered ${status}`
      throw new Refused(`tidegate ${command}: ${problem}`)
    },
    close,
  }
}

/** Returns the names of the services that have upstreams, as the gateway reports them. */
async function servicesOf({ call }: Pick<Control, 'call'>): Promise<readonly string[]> {
  const { upstreams } = await call<{ upstreams: readonly { service: string }[] }>('GET', '/upstreams')
  return [...new Set(upstreams.map(({ service }) => service))]
}

/** Returns true if a gateway runs at the configured address. */
async function answers({ config }: Snapshot, env: NodeJS.ProcessEnv): Promise<boolean> {
  return askAdmin(addressOf(config, env), 'GET', '/healthz', undefined).then(
    ({ status }) => status === 200,
    () => false,
  )
}

/** Returns true if a gateway with this configuration runs at its address and allows this process to read. */
async function lets({ config, hash }: Snapshot, file: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  try {
    const asked = askAdmin(addressOf(config, env), 'GET', '/config', undefined, undefined, PROBE_PATIENCE)
    const { status, text } = await asked
    const own = (parse(text) ?? {}) as { file?: unknown; hash?: unknown }
    return (
      status === 200 &&
      (own.hash === hash || (typeof own.file === 'string' && resolve(own.file) === resolve(file)))
    )
  } catch {
    return false
  }
}

function addressOf({ admin: { listen, token } }: Snapshot['config'], env: NodeJS.ProcessEnv): AdminAddress {
  const host = listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host === '::' ? '::1' : listen.host
  // A personal token is preferred over the shared one, because the audit then has the name.
  return { host, port: listen.port, token: env.TIDEGATE_ADMIN_TOKEN || token }
}

function parse(text: string): object | undefined {
  try {
    return JSON.parse(text) as object
  } catch {
    return undefined
  }
}

type Whose = 'store' | 'gateway' | 'any' | 'reader'

/** Values of `--config`, `--admin` and `--reason`. */
export interface ControlOptions {
  readonly config: string | undefined
  readonly admin: string | undefined
  /** Reason for the audit, for a command that changes something. */
  readonly reason?: string | undefined
  /**
   * Selects the admin API. `store`: that of the store, which may be Redis. The running gateway's own, for what no other
   * process knows. `any`: all gateways through one that runs here, otherwise the store. `reader`: the same, if that
   * gateway allows this process to read. With `admin`, that gateway is asked in any case.
   */
  readonly whose?: Whose
}

interface Opened {
  readonly address: AdminAddress
  /** Explains what it means that the address does not answer. */
  readonly unreachable: (error: Error) => string
  /** Names where the audit entry is if the store does not have it. */
  readonly onlyLogged: () => string
  /** Explains a 401 if the response does not do so well enough. */
  readonly unauthorized?: string
  readonly close: () => Promise<void>
}

function tokenWanted(at: string, { token }: AdminAddress): string {
  const what = token === undefined ? 'asks for a token' : 'does not know this token'
  return `the gateway at ${at} ${what}: set TIDEGATE_ADMIN_TOKEN to yours`
}

function gatewayOf(
  { env }: CommandIo,
  command: string,
  file: string,
  { config }: Snapshot,
  whose: Whose,
): Opened {
  const address = addressOf(config, env)
  const { host, port } = address
  if (port === 0) {
    throw new Refused(
      `tidegate ${command}: admin.listen in ${file} has port 0, so the gateway cannot be found; give it a port`,
    )
  }
  const why =
    whose === 'store' || whose === 'reader' ? ', and without store.redis the counts are in its memory' : ''
  return {
    address,
    unreachable: (error) => {
      const what = noAnswer(`${host}:${port}`, error)
      return isSilence(error) ? what : `${what}${why}; start it: tidegate start --config ${file}`
    },
    unauthorized: tokenWanted(`${host}:${port}`, address),
    onlyLogged: () => IN_ITS_LOG,
    close: () => Promise.resolve(),
  }
}

async function adminOverStore(command: string, file: string, snapshot: Snapshot): Promise<Opened> {
  let lastError = 'no answer'
  const note = (fields: object) => {
    const { error, err } = fields as { error?: unknown; err?: unknown }
    lastError = err instanceof Error ? err.message : typeof error === 'string' ? error : lastError
  }
  let unstored: unknown
  const stored: string[] = []
  let refused = () => {}
  const refusal = new Promise<void>((resolve) => {
    refused = resolve
  })
  const log: AdminLog = {
    info() {},
    warn(fields) {
      note(fields)
      refused()
      if ('audit' in fields) unstored = fields.audit
    },
    error: note,
  }
  const store = openStore(snapshot.config.store, log, { decides: false, fleet: 'asks' })
  const unreachable = () =>
    `the store is out of reach (${lastError}); check store.redis in ${file}, and that Redis runs there`

  const ready = Promise.all([store.ready, store.assignments.ready, store.amounts.map.ready])
  const isReady = await Promise.race([
    inTime(ready, PATIENCE),
    refusal.then(() => inTime(ready, PATIENCE_AFTER_ERROR)),
  ])
  if (!isReady) {
    await store.close()
    throw new Refused(`tidegate ${command}: ${unreachable()}`)
  }
  const plans = createPlans({ settings: snapshot.config.tier_sources, listen: false, log })
  const tokens = createTokens({ log })
  // Reachable on loopback and by this process only.
  const token = randomBytes(32).toString('hex')
  const sha256 = createHash('sha256').update(token).digest('hex')
  const access: AccessSettings = { tokens: [{ name: `cli:${personHere()}`, sha256, role: 'operator' }] }
  const admin = createAdmin({
    config: {
      current: () => snapshot,
      status: () => ({}),
      reload: () => Promise.resolve({ result: 'unchanged' }),
    },
    limiter: store.limiter,
    assignments: store.assignments,
    bans: store.bans,
    standing: createStanding({
      snapshot: () => snapshot,
      assignments: store.assignments,
      plans,
      keys: () => store.keys,
      seen: createSeenOfAll(() => store.fleet, undefined),
    }),
    amounts: store.amounts,
    keys: store.keys,
    maps: store.maps,
    // Upstreams and guards exist in the gateways only.
    upstreams: { describe: () => [], setState: () => undefined },
    guards: { describe: () => [] },
    top: createTopOfAll(() => store.fleet, undefined),
    metrics: { scrape: () => Promise.resolve(''), traffic: () => trafficOf(createFamilies()) },
    decisions: createDecisionsOfAll(() => store.fleet, undefined),
    explain: createExplain({
      snapshot: () => snapshot,
      limiter: store.limiter,
      assignments: store.assignments,
      plans,
      tokens,
      amounts: store.amounts,
      keyring: createKeyring({ store: () => store.keys }),
      guards: { describe: () => [] },
      upstreams: { describe: () => [] },
    }),
    ready: () => ({ ready: true, reasons: [] }),
    audit: createAudit({
      stream: () => store.audit,
      node: store.fleet.node,
      log,
      onStored: (id) => void stored.push(id),
    }),
    access: createAccess({ settings: () => access, log }),
    log,
  })
  await admin.listen({ host: '127.0.0.1', port: 0 })
  const { port } = admin.server.address() as AddressInfo
  return {
    address: { host: '127.0.0.1', port, token },
    unreachable,
    onlyLogged: () =>
      `it is done, but the store has not taken it into the audit; keep this: ${JSON.stringify(unstored)}`,
    async close() {
      await admin.close()
      tokens.close()
      await askForLines(store.fleet, stored)
      await Promise.all([store.close(), plans.close()])
    },
  }
}
