import { resolve } from 'node:path'
import { fieldsOf, parseJson } from '../../common/json.js'
import { compileSnapshot, type Snapshot } from '../../config/snapshot/snapshot.js'
import { type CommandIo, Refused, RefusedAsIs, Unavailable } from '../command.js'
import { configFile, readGoodConfig } from '../config-file.js'
import { complain } from '../print/terminal.js'
import { adminAt, formatAdmin, OR_ASK_ADMIN } from './admin-option.js'
import { type AdminAddress, askAdmin, isSilence, noAnswer } from './ask-admin.js'
import type { OpenedAdmin } from './own-admin.js'

/**
 * Admin API for the operator's commands. With Redis, this process serves the API to itself, over the store that the
 * gateways share. Without, the counts are in the gateway's memory, so the gateway is asked. Both give the same answers.
 */
export interface Control {
  /**
   * Resolves with the body of the response. Rejects with Refused, which says why and what to do, with
   * Unavailable if it may pass. `path` is
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

const IN_ITS_LOG = "the change is made, but the audit of the store does not have it; the gateway's log does"

/** Longest wait for a gateway that may not run, in ms. */
const PROBE_PATIENCE = 500

/** Opens the admin API. Commands use it through `withControl`. */
export async function openControl(io: CommandIo, options: ControlOptions): Promise<Control> {
  const { config: option, admin, reason, whose = 'store' } = options
  // The file is not read: it may be invalid by now, or the environment may be another one.
  if (admin !== undefined) {
    const at = adminAt(io, admin, option)
    const control = controlOf(io, reason, gatewayAt(at, noAnswer))
    return { ...control, services: () => servicesOf(control) }
  }
  const file = configFile(io, option)
  const snapshot = compileSnapshot(readGoodConfig(io, file, OR_ASK_ADMIN), Date.now())
  const overStore =
    snapshot.config.store.redis !== undefined &&
    (whose === 'store' ||
      (whose === 'any' && !(await answers(snapshot, io.env))) ||
      (whose === 'reader' && !(await lets(snapshot, file, io.env))))
  const opened = overStore
    ? await (await import('./own-admin.js')).adminOverStore(file, snapshot)
    : gatewayOf(io, file, snapshot, whose)
  const names = snapshot.services.map(({ name }) => name)
  return { ...controlOf(io, reason, opened), services: () => Promise.resolve(names) }
}

function controlOf(
  io: CommandIo,
  reason: string | undefined,
  { address, unreachable, unauthorized, onlyLogged, close }: OpenedAdmin,
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
        throw new Unavailable(unreachable(error))
      })
      if (recorded === 'logged') complain(io, `tidegate: ${onlyLogged()}`)
      const answer = parseJson(text)
      if (status === 200 && answer !== undefined) return answer as T
      if (status === 401 && unauthorized !== undefined) throw new Refused(unauthorized)
      const { detail, messages } = (answer ?? {}) as { detail?: unknown; messages?: unknown }
      if (status === 422 && Array.isArray(messages)) throw new RefusedAsIs([...messages, detail].join('\n'))
      const problem = typeof detail === 'string' ? detail : `the gateway answered ${status}`
      throw status === 503 ? new Unavailable(problem) : new Refused(problem)
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
    const own = fieldsOf(parseJson(text))
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

export type AskedParty = 'store' | 'gateway' | 'any' | 'reader'

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
  readonly whose?: AskedParty
}

/** Returns a gateway's admin API. */
function gatewayAt(address: AdminAddress, unreachable: (at: string, error: Error) => string): OpenedAdmin {
  const at = formatAdmin(address)
  const what = address.token === undefined ? 'requires a token' : 'does not accept this token'
  return {
    address,
    unreachable: (error) => unreachable(at, error),
    unauthorized: `the gateway at ${at} ${what}: set TIDEGATE_ADMIN_TOKEN to yours`,
    onlyLogged: () => IN_ITS_LOG,
    close: () => Promise.resolve(),
  }
}

function gatewayOf({ env }: CommandIo, file: string, { config }: Snapshot, whose: AskedParty): OpenedAdmin {
  const address = addressOf(config, env)
  if (address.port === 0)
    throw new Refused(`admin.listen in ${file} has port 0, so the gateway cannot be found; give it a port`)
  const why =
    whose === 'store' || whose === 'reader' ? ', and without store.redis the counts are in its memory' : ''
  return gatewayAt(address, (at, error) => {
    const what = noAnswer(at, error)
    return isSilence(error) ? what : `${what}${why}; start it: tidegate start --config ${file}`
  })
}
