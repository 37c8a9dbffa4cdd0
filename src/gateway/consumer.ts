import { createHash } from 'node:crypto'
import type { ConsumerSource } from '../config/snapshot.js'
import type { Refusal } from '../errors.js'
import { addressConsumer, clientAddress } from './address.js'
import type { Exchange } from './exchange.js'
import { identityHeader } from './headers.js'

/** Longest credential or trusted id, in characters. */
const MAX_CREDENTIAL = 256

/**
 * Second stage: who is calling. Sources are tried in the order of the file and the first whose credential is there
 * decides: a bad one is 401, never the next source, or a wrong key would be a way to a fresh quota.
 */
export function identifyConsumer(x: Exchange): Refusal | undefined {
  const { snapshot } = x
  x.clientIp = clientAddress(x.peer, x.headers.forwardedFor, snapshot.isTrustedProxy)
  for (const source of snapshot.consumers) {
    switch (source.kind) {
      case 'api_key': {
        const key = identityHeader(x.headers, source.header)
        if (key === undefined) continue
        const owner = ownerOf(source, key)
        if (owner === undefined) return unauthorized(`The API key in ${source.header} is not valid.`)
        x.consumer = owner.consumer
        x.credentialTier = owner.tier
        x.tenant = owner.tenant
        x.identifiedBy = 'api_key'
        return undefined
      }
      case 'client_certificate': {
        const certificate = x.secured?.certificate
        if (certificate === undefined) continue
        if (!certificate.verified)
          return unauthorized('The client certificate is not one that is trusted here.')
        const id = certificate.ids[source.id]
        if (id === undefined || !isId(id)) return unauthorized(`The client certificate has no ${source.id}.`)
        x.consumer = id
        x.identifiedBy = 'client_certificate'
        return undefined
      }
      case 'header': {
        const id = identityHeader(x.headers, source.header)
        if (id === undefined) continue
        const tenant = source.tenant === undefined ? undefined : identityHeader(x.headers, source.tenant)
        if (!isId(id)) return badId(source.header)
        if (tenant !== undefined && !isId(tenant)) return badId(source.tenant!)
        x.consumer = id
        x.tenant = tenant
        x.identifiedBy = 'header'
        return undefined
      }
      case 'ip':
        x.consumer = addressConsumer(x.clientIp)
        x.identifiedBy = 'ip'
        return undefined
    }
  }
  const names = [...snapshot.identityHeaders]
  return unauthorized(names.length === 0 ? undefined : `Send a credential in ${names.join(' or ')}.`)
}

function isId(text: string): boolean {
  return text !== '' && text.length <= MAX_CREDENTIAL
}

function badId(header: string): Refusal {
  return unauthorized(`The id in ${header} is empty or longer than ${MAX_CREDENTIAL} characters.`)
}

function unauthorized(detail: string | undefined): Refusal {
  return {
    code: 'unauthorized',
    // RFC 9110 §11.6.1 wants a challenge; API keys have no registered scheme.
    headers: ['WWW-Authenticate', 'ApiKey realm="tidegate"'],
    ...(detail === undefined ? {} : { detail }),
  }
}

type ApiKeys = Extract<ConsumerSource, { kind: 'api_key' }>
type Owner = ApiKeys['keys'] extends ReadonlyMap<string, infer V> ? V : never

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
