import { Type } from '@sinclair/typebox'
import { CREDENTIAL_KINDS, type CredentialKindName } from '../values/credential-kinds.js'
import { boolean, choice, list, object, scalar } from './define.js'

/** Schema of what a route requires of its clients. */

/** Every client has an address, so a route cannot ask for it. */
const KINDS = Object.keys(CREDENTIAL_KINDS).filter(
  (kind): kind is Exclude<CredentialKindName, 'ip'> => kind !== 'ip',
)

export const Auth = object(
  {
    any_of: Type.Optional(
      list(
        choice(KINDS, 'A kind of credential that consumers knows'),
        'The credentials that identify a caller here, in the order of consumers; others are not looked at. Left out: all of consumers',
        { minItems: 1, maxItems: KINDS.length, examples: [['jwt', 'api_key']] },
      ),
    ),
    required: boolean(
      'Whether a caller without any is answered with 401. false: it is known by its address',
      { default: true },
    ),
    scopes: list(
      scalar('scope', 'A scope'),
      'What a credential must have, all of it; one that does not is answered with 403',
      { default: [], maxItems: 32, examples: [['payments:write']] },
    ),
  },
  'What a route asks of its callers. Left out: whatever consumers knows will do',
)
