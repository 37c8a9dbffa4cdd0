import { createHash } from 'node:crypto'
import type { Config } from '../schema/schema.js'

/** Hashes of a configuration: the first 12 hex digits of the SHA-256, with secrets resolved. */
export interface ConfigHashes {
  /**
   * Hash that operators compare. It leaves out what may differ between equivalent gateways: listen addresses, the
   * destination of access lines, the names of included files, and those of the gateway and its group.
   */
  readonly hash: string
  /** Hash of the whole configuration, by which a change is detected. */
  readonly fingerprint: string
}

export function configHashes(config: Config): ConfigHashes {
  const {
    listen: _listen,
    include: _include,
    instance: _instance,
    group: _group,
    admin,
    log,
    ...rest
  } = config
  const shared = { ...rest, admin: { ...admin, listen: undefined }, log: { ...log, access: undefined } }
  return { hash: hashOf(shared), fingerprint: hashOf(config) }
}

function hashOf(config: object): string {
  const sorted = JSON.stringify(config, (_, value) =>
    value === null || typeof value !== 'object' || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))),
  )
  return createHash('sha256').update(sorted).digest('hex').slice(0, 12)
}
