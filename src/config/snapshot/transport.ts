import { createHash } from 'node:crypto'
import type { Config } from '../schema/schema.js'

/** Connection settings of an upstream. */
export interface Transport {
  /** TLS settings of an https:// upstream. */
  readonly tls: UpstreamTls | undefined
  readonly protocol: 'http1' | 'http2'
  /**
   * Upstreams with the same key may share connections. The key holds the origin and every property of a connection, so
   * no service gets a connection that was verified by another service's CA, or opened with another's certificate.
   */
  readonly key: string
}

/** TLS settings, with file contents in PEM. */
export interface UpstreamTls {
  readonly ca: string | undefined
  readonly serverName: string | undefined
  readonly verify: boolean
  readonly cert: string | undefined
  readonly key: string | undefined
}

interface ServiceConfig {
  readonly tls?: Config['services'][string]['tls'] | undefined
  readonly protocol: Transport['protocol']
}

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
