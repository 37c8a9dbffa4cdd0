import { createHash } from 'node:crypto'
import type { Config } from '../schema/schema.js'

/** How an upstream is spoken to. */
export interface Transport {
  /** Of an https:// upstream. */
  readonly tls: UpstreamTls | undefined
  readonly protocol: 'http1' | 'http2'
  /**
   * Upstreams with the same one may share connections: it holds the origin and everything that makes a connection what it
   * is, so that nobody gets one that was verified by another service's CA, or opened with another's certificate.
   */
  readonly key: string
}

/** Contents in PEM. */
export interface UpstreamTls {
  readonly ca: string | undefined
  readonly serverName: string | undefined
  readonly verify: boolean
  readonly cert: string | undefined
  readonly key: string | undefined
}

type ServiceConfig = Pick<Config['services'][string], 'tls' | 'protocol'>

export function compileTransport(origin: string, { tls: settings, protocol }: ServiceConfig): Transport {
  if (!origin.startsWith('https:'))
    return { tls: undefined, protocol, key: JSON.stringify([origin, protocol]) }
  const tls: UpstreamTls = {
    ca: settings?.ca?.text,
    serverName: settings?.server_name,
    verify: settings?.verify ?? true,
    cert: settings?.cert?.text,
    key: settings?.key?.text,
  }
  const all = [tls.ca, tls.serverName, tls.verify, tls.cert, tls.key]
  const digest = createHash('sha256').update(JSON.stringify(all)).digest('base64url')
  return { tls, protocol, key: JSON.stringify([origin, protocol, digest]) }
}
