import { CREDENTIAL_KINDS, type CredentialKindName } from '../values/credential-kinds.js'
import { boolean, choice, list, object, scalar } from './define.js'
import { RouteForward } from './forward.js'

/** Schema of what a route requires of its clients. */

type Kind = Exclude<CredentialKindName, 'ip'>
/** Every client has an address, so a route cannot require one. */
const KINDS = Object.keys(CREDENTIAL_KINDS).filter((kind): kind is Kind => kind !== 'ip')

export const Auth = object(
  {
    'any_of?': list(
      choice(KINDS, 'A kind of credential in consumers'),
      'Accepted credentials. They are tried in the order of consumers; all others are ignored. Default: all of consumers',
      { minItems: 1, maxItems: KINDS.length, examples: [['jwt', 'api_key']] },
    ),
    required: boolean('true: a client without a credential gets 401. false: its address identifies it', {
      default: true,
    }),
    scopes: list(
      scalar('scope', 'A scope'),
      'Scopes that the credential must all have. A credential that lacks one gets 403',
      { default: [], maxItems: 32, examples: [['payments:write']] },
    ),
    'forward?': RouteForward,
  },
  'Credentials that a route requires. Default: any that consumers accepts',
)
