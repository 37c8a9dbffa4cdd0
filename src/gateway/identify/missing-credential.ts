import { getOrAdd } from '../../common/maps.js'
import type { ConsumerSource } from '../../config/snapshot/consumers.js'
import type { SignatureSettings } from '../../config/snapshot/signatures.js'
import { CREDENTIAL_KINDS, type CredentialKindName } from '../../config/values/credential-kinds.js'
import type { Refusal } from '../../errors.js'
import { challengeOf, unauthorized } from './identify.js'

/** Returns the refusal for a client without a credential, with a challenge for each kind that has one. */
export function missingCredential(sources: readonly ConsumerSource[]): Refusal {
  return getOrAdd(prepared, sources, made)
}

/** Cached refusals by the sources of a snapshot or route. They are dropped with it. */
const prepared = new WeakMap<readonly ConsumerSource[], Refusal>()

function made(sources: readonly ConsumerSource[]): Refusal {
  const names = sources.flatMap(({ headers }) => headers)
  const where =
    names.length === 0 ? 'Send a client certificate.' : `Send a credential in ${names.join(' or ')}.`
  const [first, ...more] = (Object.keys(CREDENTIAL_KINDS) as CredentialKindName[])
    .filter((kind) => sources.some((source) => source.kind === kind))
    .flatMap((kind) => challengeOf(kind) ?? [])
  const { headers, ...refusal } = unauthorized(where, first)
  const signature = sources.find((source) => source.kind === 'signature') as SignatureSettings | undefined
  return {
    ...refusal,
    headers: [
      ...headers!,
      ...more.flatMap((challenge) => ['WWW-Authenticate', challenge]),
      ...(signature === undefined ? [] : ['Accept-Signature', signature.accepted]),
    ],
  }
}
