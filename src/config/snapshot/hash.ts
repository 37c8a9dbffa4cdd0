import { createHash } from 'node:crypto'
import type { Config } from '../schema/schema.js'

/** Hashes of a configuration: the first 12 hex digits of the SHA-256, with secrets resolved. */
export interface ConfigHashes {
  /** Hash of the whole configuration. */
  readonly own: string
  /** Hash without what may differ between equivalent gateways: listen addresses and the destination of access lines. */
  readonly shared: string
}

export function configHashes(config: Config): ConfigHashes {
  const { listen: _, admin, log, ...rest } = config
  const shared = { ...rest, admin: { ...admin, listen: undefined }, log: { ...log, access: undefined } }
  return { own: hashOf(config), shared: hashOf(shared) }
}

function hashOf(config: object): string {
  const sorted = JSON.stringify(config, (_, value) =>
    value === null || typeof value !== 'object' || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))),
  )
  return createHash('sha256').update(sorted).digest('hex').slice(0, 12)
}
