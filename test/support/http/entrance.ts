import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Test } from 'tap'
import {
  type ConnectionCounts,
  createConnectionCounts,
  type Entrance,
} from '../../../src/gateway/listen/listener.js'
import { openTls, type Tls, type TlsOptions } from '../../../src/gateway/listen/tls.js'
import { snapshotOf } from '../gateway/gateway.js'
import { type Site, startSite } from '../gateway/site.js'
import { type RawConnection, rawOn } from './raw.js'

/** Lines that the entrance logged. */
export interface Line {
  readonly level: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly message: string
}

export interface EntranceSite extends Site {
  readonly counts: ConnectionCounts
  readonly lines: Line[]
  readonly tls: Tls | undefined
  /** Decrypted connections, in the order in which their handshakes ended. */
  readonly decrypted: Socket[]
}

/** Starts a site whose connections are counted, and encrypted if its configuration has `server.tls`, as `main.ts` wires it. */
export async function startEntrance(
  t: Test,
  yaml: string,
  options: Partial<TlsOptions> = {},
): Promise<EntranceSite> {
  const lines: Line[] = []
  const say = (level: string) => (fields: object, message: string) => {
    lines.push({ level, fields: fields as Line['fields'], message })
  }
  const log = { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
  const settings = snapshotOf(yaml.replaceAll('PAYMENTS', 'http://a').replaceAll('MARKETING', 'http://b'))
    .config.server.tls
  const tls =
    settings === undefined
      ? undefined
      : await openTls({ settings, alpn: ['http/1.1'], log, pollMs: 50, stableMs: 20, ...options })
  t.teardown(() => tls?.close())
  const counts = createConnectionCounts()
  const decrypted: Socket[] = []
  const step = tls && {
    secure(socket: Socket, next: (secured: Socket) => void, failed: (why: string) => void) {
      const noted = (secured: Socket) => {
        decrypted.push(secured)
        next(secured)
      }
      tls.secure(socket, noted, failed)
    },
  }
  const entrance: Entrance = { counts, tls: step, log }
  return { ...(await startSite(t, yaml, {}, { entrance })), counts, lines, tls, decrypted }
}

/** Connects from another address of this machine. */
export async function openFrom(localAddress: string, port: number): Promise<RawConnection> {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  const connection = rawOn(socket)
  await once(socket, 'connect')
  return connection
}
