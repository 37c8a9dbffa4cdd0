import type { ConsumerSource, Snapshot } from '../config/snapshot.js'
import { createSeenNonces, type SeenNonces } from '../credentials/seen-nonces.js'
import type { Tokens } from '../credentials/tokens.js'
import type { Refusal } from '../errors.js'
import type { Exchange } from './exchange.js'
import { type Identified, unauthorized } from './identify.js'
import { identifyByApiKey } from './identify-api-key.js'
import { identifyByCertificate } from './identify-certificate.js'
import { identifyByHeader } from './identify-header.js'
import { identifyByIp } from './identify-ip.js'
import { BEARER, identifyByJwt } from './identify-jwt.js'
import { identifyBySignature } from './identify-signature.js'

/** What it takes to check credentials that are not in the snapshot. */
export interface Means {
  readonly tokens: Pick<Tokens, 'verify' | 'unknownTier'>
}

/**
 * Second stage: who is calling. Sources are tried in the order of the file and the first whose credential is there
 * decides: a bad one is 401, never the next source, or a wrong key would be a way to a fresh quota.
 */
export function identifyConsumer(means: Means) {
  const nonces = createSeenNonces()
  return function identifyConsumer(x: Exchange): Refusal | undefined | Promise<Refusal | undefined> {
    const { snapshot } = x
    for (const source of snapshot.consumers) {
      const identified = identifyBy(x, source, means, nonces)
      if (identified !== 'absent') return identified
    }
    return unknown(snapshot)
  }
}

/** Nothing that identifies was sent: what could be, each way with its challenge. */
function unknown({ identityHeaders, consumers }: Snapshot): Refusal {
  const names = [...identityHeaders]
  const detail = names.length === 0 ? undefined : `Send a credential in ${names.join(' or ')}.`
  const bearer = consumers.some(({ kind }) => kind === 'jwt')
  if (!bearer) return unauthorized(detail)
  const refusal = unauthorized(detail, BEARER)
  const both = consumers.some(({ kind }) => kind === 'api_key')
  return both ? { ...refusal, headers: [...refusal.headers!, ...unauthorized(undefined).headers!] } : refusal
}

function identifyBy(
  x: Exchange,
  source: ConsumerSource,
  { tokens }: Means,
  nonces: SeenNonces,
): Identified | Promise<Refusal | undefined> {
  switch (source.kind) {
    case 'api_key':
      return identifyByApiKey(x, source)
    case 'client_certificate':
      return identifyByCertificate(x, source)
    case 'header':
      return identifyByHeader(x, source)
    case 'signature':
      return identifyBySignature(x, source, nonces)
    case 'jwt':
      return identifyByJwt(x, source, tokens)
    case 'ip':
      return identifyByIp(x)
  }
}
