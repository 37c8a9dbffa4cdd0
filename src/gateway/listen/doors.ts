import { createServer, type Server } from 'node:net'
import type { Config } from '../../config/schema/schema.js'
import { type Door, doorsOf, tlsOf } from '../../config/snapshot/doors.js'
import { addressOf, listen, listening } from '../../net/listen.js'
import type { Door as EntranceDoor, FurtherDoor } from './listener.js'
import { openTls, type Tls, type TlsOptions } from './tls.js'

/** The addresses of the gateway, with their TLS. */
export interface Doors {
  /** For `Entrance`. */
  readonly entrance: EntranceDoor & { readonly further: readonly FurtherDoor[] }
  /**
   * Listens on all addresses.
   *
   * @param app the HTTP server, which takes the first one
   * @throws Error whose message says what to do
   */
  listen(app: Parameters<typeof listen>[0]): Promise<void>
  /** Returns the URLs of all addresses once they are bound. The first one serves requests. */
  addresses(app: { readonly server: Server }): readonly string[]
  /** Takes new settings of `server.tls`, and reads all certificates again. */
  reload(settings: Config): void
  expiries: Tls['expiries']
  close(): void
}

/** Options of the HTTP server that accepts on the first address: the connections of all are the same. */
const ACCEPTING = { allowHalfOpen: true, noDelay: true, highWaterMark: 65_536 }

/**
 * Opens TLS of all addresses in `listen`.
 *
 * @param file configuration file
 * @throws Error whose message says which certificate is bad and what to do
 */
export async function openDoors(
  settings: Config,
  file: string,
  { log, onReload }: Pick<TlsOptions, 'log' | 'onReload'>,
): Promise<Doors> {
  const doors = doorsOf(settings)
  const alpn = settings.server.http2.enabled ? ['h2', 'http/1.1'] : ['http/1.1']
  const byKey = new Map<string, Tls>()
  const close = () => {
    for (const tls of byKey.values()) tls.close()
  }
  for (const { key, settings } of tlsOf(doors)) {
    try {
      byKey.set(key, await openTls({ settings, path: key, alpn, log, onReload }))
    } catch (error) {
      close()
      throw new Error((error as Error).message.replace(/^/gm, `${file}: `))
    }
  }
  const opened = ({ at, tls }: Door): EntranceDoor => ({
    tls: tls && byKey.get(tls.key),
    unix: 'path' in at,
  })
  const [first, ...others] = doors
  const further = others.map((door) => ({
    ...opened(door),
    redirect: door.redirect,
    server: createServer(ACCEPTING),
  }))
  const urlOf = (server: Server, { tls }: Door) => addressOf({ server }, tls === undefined ? 'http' : 'https')
  return {
    entrance: { ...opened(first!), further },
    async listen(app) {
      await listen(app, first!.at, first!.key, file)
      for (const [i, { at, key }] of others.entries())
        await listen(listening(further[i]!.server), at, key, file)
    },
    addresses: ({ server }) => [
      urlOf(server, first!),
      ...others.map((door, i) => urlOf(further[i]!.server, door)),
    ],
    reload({ server }) {
      for (const [key, tls] of byKey) void tls.reload(key === 'server.tls' ? server.tls : undefined)
    },
    expiries: () => [...byKey.values()].flatMap((tls) => tls.expiries()),
    close,
  }
}
