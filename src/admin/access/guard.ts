import type { IncomingHttpHeaders } from 'node:http'
import { plainAddress } from '../../net/address-key.js'
import { isLoopback } from '../../net/addresses.js'
import type { Problem } from './problem.js'

/** Properties of a request that decide whether it may reach the admin server. */
export interface Caller {
  readonly method: string
  readonly headers: IncomingHttpHeaders
  /** Number of Host headers: Node shows only the first. */
  readonly hosts: number
  readonly remoteAddress: string | undefined
  /** Local port of the connection. */
  readonly localPort: number | undefined
  /** True for the page, which is the same for everyone: any other page may link to it. */
  readonly isPage: boolean
}

/**
 * Checks a request before everything else; returns undefined if it may go on. Without a token the server trusts every
 * client on this machine, and a browser on this machine runs pages of strangers. Such a page may post here (hence
 * Origin and Sec-Fetch-Site), or make its own name resolve to 127.0.0.1 and read the responses (DNS rebinding, hence
 * Host). With a token this is safe: no page knows it.
 *
 * @param open true if no token is required
 */
export function guard(caller: Caller, open: boolean): Problem | undefined {
  const { headers } = caller
  if (caller.hosts > 1) return { code: 'bad_request', detail: 'Send one Host header.' }
  if (open) {
    if (caller.remoteAddress === undefined || !isLoopback(plainAddress(caller.remoteAddress))) {
      return forbidden(
        'Without a token, the admin API serves only this machine; set admin.tokens to open it to others.',
      )
    }
    if (!isLocalHost(headers.host, caller.localPort)) {
      return forbidden(
        'The Host header must be localhost, 127.0.0.1 or [::1] with the port of the admin API.',
      )
    }
  }
  if (headers['sec-fetch-site'] === 'cross-site' && !caller.isPage)
    return forbidden('A page of another site must not use the admin API.')
  const isWrite = caller.method !== 'GET' && caller.method !== 'HEAD'
  if (isWrite && !isSameOrigin(headers)) {
    return forbidden(
      'A page of another origin must not change anything here; send no Origin, or that of the admin API.',
    )
  }
  return undefined
}

function forbidden(detail: string): Problem {
  return { code: 'forbidden', detail }
}

function isLocalHost(host: string | undefined, port: number | undefined): boolean {
  const found = /^(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(?::(\d{1,5}))?$/i.exec(host ?? '')
  return found !== null && Number(found[1] ?? 80) === port
}

function isSameOrigin(headers: IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site']
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false
  const origin = headers.origin?.toLowerCase()
  const host = headers.host?.toLowerCase()
  return origin === undefined || origin === `http://${host}` || origin === `https://${host}`
}
