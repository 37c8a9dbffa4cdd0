import { createHash } from 'node:crypto'
import type { Config } from '../schema/schema.js'

/** First 12 hex digits of the SHA-256 of a configuration with its secrets resolved. */
export function configHash(config: Config): string {
  const sorted = JSON.stringify(config, (_, value) =>
    value === null || typeof value !== 'object' || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))),
  )
  return createHash('sha256').update(sorted).digest('hex').slice(0, 12)
}
