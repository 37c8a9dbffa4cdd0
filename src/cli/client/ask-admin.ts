import { request } from 'node:http'
import { currentUser } from '../current-user.js'

export interface AdminAddress {
  readonly host: string
  readonly port: number
  readonly token: string | undefined
}

export interface AdminAnswer {
  readonly status: number
  readonly text: string
  /** For a write: `stored` or `logged`, depending on where the audit entry is. */
  readonly recorded: string | string[] | undefined
}

/** Longest wait without any activity, in ms. */
const TIMEOUT = 5000
const SECONDS = TIMEOUT / 1000
const SILENT = `silent for ${SECONDS} s`

/** Explains that an address did not answer. A gateway that hangs must not be started a second time. */
export function noAnswer(at: string, error: Error): string {
  return isSilence(error)
    ? `the gateway at ${at} accepted the connection and has been ${SILENT}: it hangs, or waits for something that hangs`
    : `no gateway answers at ${at} (${error.message})`
}

/** Returns true if the connection was made and no data came. */
export function isSilence({ message }: Error): boolean {
  return message === SILENT
}

/**
 * Sends one request to an admin API. Rejects with an Error whose message is the reason in a word or two. It does not
 * use fetch, which removes `..` from a path: that may be a consumer's id.
 *
 * @param reason why something is changed, for the audit
 * @param patienceMs longest wait without any activity, in ms
 */
export function askAdmin(
  { host, port, token }: AdminAddress,
  method: string,
  path: string,
  body: object | undefined,
  reason?: string,
  patienceMs = TIMEOUT,
): Promise<AdminAnswer> {
  // As bytes: Node would prepend the headers to a text, and encode them as UTF-8 a second time.
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
  const headers = {
    'user-agent': `tidegate-cli (${currentUser()})`,
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    // Node takes header values for Latin-1. This conversion puts UTF-8 on the wire.
    ...(reason === undefined ? {} : { 'x-reason': Buffer.from(reason).toString('latin1') }),
    ...(payload === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': payload.length }),
  }
  return new Promise((resolve, reject) => {
    const call = request({ host, port, method, path, headers, agent: false, timeout: patienceMs })
    const fail = (error: NodeJS.ErrnoException) => reject(new Error(error.code ?? error.message))
    call.on('timeout', () =>
      call.destroy(
        new Error(call.socket?.connecting === false ? SILENT : `no connection within ${SECONDS} s`),
      ),
    )
    call.on('error', fail)
    call.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text, recorded: response.headers['x-audit'] }),
      )
      response.on('error', fail)
    })
    call.end(payload)
  })
}
