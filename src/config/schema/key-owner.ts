import type { Static } from '@sinclair/typebox'
import { either, list, object, type Properties, scalar, string } from './define.js'

/** Keys of every credential that the file lists: its consumer, and what comes with it. */
export const owner = {
  consumer: string('Id of the consumer, under which its quota is counted', { maxLength: 256 }),
  'tier?': scalar('name', 'Tier that comes with the key. Default: default_tier'),
  'tenant?': string('Tenant of the consumer, for limits by tenant', { maxLength: 256 }),
  'scopes?': list(scalar('scope', 'A scope'), 'Scopes of the key, for routes that require them', {
    maxItems: 32,
  }),
}

/**
 * Defines a key or token by its SHA-256 or in plain text. Both are read into the SHA-256.
 *
 * @param variable of the environment, for the example
 */
export function hashedOrPlain<P extends Properties>(
  what: 'key' | 'token',
  variable: string,
  owned: P,
  description: string,
) {
  // Marked as secret because users will put the key itself here.
  const how = `SHA-256 of the ${what} in hex: printf %s THE-${what.toUpperCase()} | sha256sum`
  const Hashed = object(
    { sha256: scalar('sha256', how, { secret: true }), ...owned },
    `A ${what} by its SHA-256`,
  )
  const text = scalar(
    'hashed',
    `The ${what} in plain text, best from the environment: "\${${variable}}". Tidegate keeps only its SHA-256`,
    { secret: true, becomes: 'sha256' },
  )
  return either<Static<typeof Hashed>>(
    [Hashed, object({ [what]: text, ...owned }, `A ${what} in plain text`)],
    description,
  )
}
