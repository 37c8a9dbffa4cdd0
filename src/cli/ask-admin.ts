import { request } from 'node:http'

export interface AdminAddress {
  readonly host: string
  readonly port: number
  readonly token: string | undefined
}

/** Ms without anything happening. */
const TIMEOUT = 5000

/**
 * One request to an admin API. Rejects with an Error whose message is the reason in a word or two. Not by fetch: it
 * takes `..` out of a path, and that may be a consumer's id.
 */
export function askAdmin(
  { host, port, token }: AdminAddress,
  method: string,
  path: string,
  body: object | undefined,
): Promise<{ status: number; text: string }> {
  const payload = body === undefined ? undefined : JSON.stringify(body)
  const headers = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(payload === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
  }
  return new Promise((resolve, reject) => {
    const call = request({ host, port, method, path, headers, agent: false, timeout: TIMEOUT })
    const fail = (error: NodeJS.ErrnoException) => reject(new Error(error.code ?? error.message))
    call.on('timeout', () => call.destroy(new Error(`silent for ${TIMEOUT / 1000} s`)))
    call.on('error', fail)
    call.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      response.on('error', fail)
    })
    call.end(payload)
  })
}
