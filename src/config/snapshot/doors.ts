import { formatListen, type ListenAddress, type UnixAddress } from '../../net/addresses.js'
import type { Config } from '../schema/schema.js'

/** An address on which the gateway listens. */
export interface Door {
  /** Its key in the file: `listen`, or `listen[1]`. */
  readonly key: string
  readonly at: ListenAddress | UnixAddress
  readonly tls: DoorTls | undefined
  /** Port of the https address to which all requests are redirected; undefined: the gateway serves them. */
  readonly redirect: number | undefined
}

export interface DoorTls {
  /** Its key in the file: `server.tls`, or `listen[1].tls`. */
  readonly key: string
  /** Place of the settings in the file. */
  readonly path: readonly (string | number)[]
  readonly settings: NonNullable<Config['server']['tls']>
}

/** Returns all addresses: first those where the gateway serves requests. */
export function doorsOf({ listen, server }: Pick<Config, 'listen' | 'server'>): readonly Door[] {
  const shared = server.tls && { key: 'server.tls', path: ['server', 'tls'], settings: server.tls }
  if ('host' in listen) return [{ key: 'listen', at: listen, tls: shared, redirect: undefined }]
  const doors = listen.map((entry, i): Door => {
    const key = `listen[${i}]`
    if ('unix' in entry)
      return { key, at: { path: entry.unix, mode: entry.mode }, tls: undefined, redirect: undefined }
    const { address, tls, redirect } = entry
    const own =
      typeof tls === 'object' ? { key: `${key}.tls`, path: ['listen', i, 'tls'], settings: tls } : undefined
    return { key, at: address, tls: tls === true ? shared : own, redirect }
  })
  return [
    ...doors.filter(({ redirect }) => redirect === undefined),
    ...doors.filter(({ redirect }) => redirect !== undefined),
  ]
}

/** Returns the settings of TLS that are in use, each once. */
export function tlsOf(doors: readonly Door[]): readonly DoorTls[] {
  const byKey = new Map(doors.flatMap(({ tls }) => (tls === undefined ? [] : [[tls.key, tls] as const])))
  return [...byKey.values()]
}

/** Formats an address as in the file. */
export function formatAddress(at: ListenAddress | UnixAddress): string {
  return 'path' in at ? at.path : formatListen(at)
}
