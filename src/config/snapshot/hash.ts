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
  const sorted = inOrder(config) as Config
  // In the places of the keys that they replace.
  const left = { listen: undefined, include: undefined, instance: undefined, group: undefined }
  const { admin, log } = sorted
  const shared = {
    ...sorted,
    ...left,
    admin: { ...admin, listen: undefined },
    log: { ...log, access: undefined },
  }
  return { hash: hashOf(shared), fingerprint: hashOf(sorted) }
}

/** Returns a copy with the keys of all mappings in the order of the alphabet. */
function inOrder(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(inOrder)
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, item]) => [key, inOrder(item)]))
}

function hashOf(sorted: object): string {
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, 12)
}
