import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import type { AdminLog } from '../admin/deps.js'
import { createAdmin } from '../admin/server.js'
import { formatListen } from '../config/addresses.js'
import { compileSnapshot, type Snapshot } from '../config/snapshot.js'
import { openStore } from '../limiter/store.js'
import { Refused } from './command.js'
import { configFile, readGoodConfig } from './config-file.js'

/**
 * The admin API as the operator's commands use it. With Redis it is asked within this process, over the store that the
 * gateways share; without, the counts are in the gateway's memory, and it is asked there.
 */
export interface Control {
  /** Resolves with the answer's body. Rejects with Refused, saying why and what to do. `path` is percent-encoded. */
  call<T = object>(method: 'GET' | 'PUT' | 'DELETE', path: string, body?: object): Promise<T>
  close(): Promise<void>
}

type Ask = (
  method: string,
  path: string,
  body: string | undefined,
) => Promise<{ status: number; text: string }>

/** Ms for the first answer of the store or of the gateway. */
const PATIENCE = 5000

export async function openControl(command: string, option: string | undefined): Promise<Control> {
  const file = configFile(command, option)
  const snapshot = compileSnapshot(readGoodConfig(command, file), Date.now())
  const { ask, close } =
    snapshot.config.store.redis === undefined
      ? askGateway(command, file, snapshot)
      : await askStore(command, file, snapshot)
  return {
    async call<T>(method: string, path: string, body?: object) {
      const { status, text } = await ask(method, path, body === undefined ? undefined : JSON.stringify(body))
      const answer = parse(text)
      if (status === 200 && answer !== undefined) return answer as T
      const { detail } = (answer ?? {}) as { detail?: unknown }
      throw new Refused(
        `tidegate ${command}: ${typeof detail === 'string' ? detail : `the gateway answered ${status}`}`,
      )
    },
    close,
  }
}

function parse(text: string): object | undefined {
  try {
    return JSON.parse(text) as object
  } catch {
    return undefined
  }
}

async function askStore(command: string, file: string, snapshot: Snapshot) {
  let lastError = 'no answer'
  const note = (fields: object) => {
    const { error, err } = fields as { error?: unknown; err?: unknown }
    lastError = err instanceof Error ? err.message : typeof error === 'string' ? error : lastError
  }
  const log: AdminLog = { info() {}, warn: note, error: note }
  const store = openStore(snapshot.config.store, log)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, PATIENCE, 'late')
  })
  const first = await Promise.race([store.ready, late])
  clearTimeout(timer)
  if (first === 'late') {
    await store.close()
    throw new Refused(
      `tidegate ${command}: the store is out of reach (${lastError}); check store.redis in ${file}, and that Redis runs there`,
    )
  }
  // Nobody listens: the token only satisfies the guard, which would else ask where a request came from.
  const token = randomBytes(16).toString('hex')
  const admin = createAdmin({
    config: {
      current: () => snapshot,
      status: () => ({}),
      reload: () => Promise.resolve({ result: 'unchanged' }),
    },
    limiter: store.limiter,
    assignments: store.assignments,
    metrics: { scrape: () => Promise.resolve('') },
    ready: () => ({ ready: true, reasons: [] }),
    token,
    log,
  })
  const ask: Ask = async (method, path, body) => {
    const response = await admin.inject({
      method: method as 'GET',
      url: path,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { payload: body }),
    })
    return { status: response.statusCode, text: response.body }
  }
  return {
    ask,
    async close() {
      await admin.close()
      await store.close()
    },
  }
}

function askGateway(command: string, file: string, { config }: Snapshot) {
  const { listen, token } = config.admin
  if (listen.port === 0) {
    throw new Refused(
      `tidegate ${command}: admin.listen in ${file} has port 0, so the gateway cannot be found; give it a port`,
    )
  }
  const host = listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host === '::' ? '::1' : listen.host
  const ask: Ask = (method, path, body) =>
    new Promise((resolve, reject) => {
      // Not fetch: it takes `..` out of a path, and that may be a consumer's id.
      const call = request({
        host,
        port: listen.port,
        method,
        path,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
        agent: false,
        timeout: PATIENCE,
      })
      call.on('timeout', () => call.destroy(new Error(`no answer within ${PATIENCE} ms`)))
      call.on('error', (error: NodeJS.ErrnoException) => {
        const where = formatListen({ host, port: listen.port })
        reject(
          new Refused(
            `tidegate ${command}: no gateway answers at ${where} (${error.code ?? error.message}), and without store.redis the counts are in its memory; start it: tidegate start --config ${file}`,
          ),
        )
      })
      call.on('response', (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
        response.on('error', (error) => reject(new Refused(`tidegate ${command}: ${error.message}`)))
      })
      call.end(body)
    })
  return { ask, close: () => Promise.resolve() }
}
