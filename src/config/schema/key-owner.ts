import { list, scalar, string } from './define.js'

/** Keys of every credential that the file lists: its consumer, and what comes with it. */
export const owner = {
  consumer: string('Id of the consumer, under which its quota is counted', { maxLength: 256 }),
  'tier?': scalar('name', 'Tier that comes with the key. Default: default_tier'),
  'tenant?': string('Tenant of the consumer, for limits by tenant', { maxLength: 256 }),
  'scopes?': list(scalar('scope', 'A scope'), 'Scopes of the key, for routes that require them', {
    maxItems: 32,
  }),
}
