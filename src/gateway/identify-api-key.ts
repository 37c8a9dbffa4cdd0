import { createHash } from 'node:crypto'
import type { SourceOf } from '../config/consumers.js'
import type { Exchange } from './exchange.js'
import { identityHeader } from './headers.js'
import { type Identified, MAX_CREDENTIAL, unauthorized } from './identify.js'

type ApiKeys = SourceOf<'api_key'>
type Owner = ApiKeys['keys'] extends ReadonlyMap<string, infer V> ? V : never

export function identifyByApiKey(x: Exchange, source: ApiKeys): Identified {
  const key = identityHeader(x.headers, source.header)
  if (key === undefined) return 'absent'
  const owner = ownerOf(source, key)
  if (owner === undefined) return unauthorized(`The API key in ${source.header} is not valid.`)
  x.consumer = owner.consumer
  x.credentialTier = owner.tier
  x.tenant = owner.tenant
  x.identifiedBy = 'api_key'
  return undefined
}

/** Valid keys seen, by their text, so that each is hashed once. Only valid ones: strangers cannot fill it. */
const seen = new WeakMap<ApiKeys, Map<string, Owner>>()
const MAX_SEEN = 100_000

function ownerOf(source: ApiKeys, key: string): Owner | undefined {
  let known = seen.get(source)
  if (known === undefined) {
    known = new Map()
    seen.set(source, known)
  }
  const hit = known.get(key)
  if (hit !== undefined) return hit
  if (key.length === 0 || key.length > MAX_CREDENTIAL) return undefined
  // The look-up is by digest, so its timing tells nothing of a key that one does not have.
  const owner = source.keys.get(createHash('sha256').update(key, 'latin1').digest('hex'))
  if (owner !== undefined && known.size < MAX_SEEN) known.set(key, owner)
  return owner
}
