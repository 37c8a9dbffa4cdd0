import type { ConsumerSource } from '../config/snapshot.js'
import { createSeenNonces, type SeenNonces } from '../credentials/seen-nonces.js'
import type { Refusal } from '../errors.js'
import type { Exchange } from './exchange.js'
import { type Identified, unauthorized } from './identify.js'
import { identifyByApiKey } from './identify-api-key.js'
import { identifyByCertificate } from './identify-certificate.js'
import { identifyByHeader } from './identify-header.js'
import { identifyByIp } from './identify-ip.js'
import { identifyBySignature } from './identify-signature.js'

/**
 * Second stage: who is calling. Sources are tried in the order of the file and the first whose credential is there
 * decides: a bad one is 401, never the next source, or a wrong key would be a way to a fresh quota.
 */
export function identifyConsumer() {
  const nonces = createSeenNonces()
  return function identifyConsumer(x: Exchange): Refusal | undefined | Promise<Refusal | undefined> {
    const { snapshot } = x
    for (const source of snapshot.consumers) {
      const identified = identifyBy(x, source, nonces)
      if (identified !== 'absent') return identified
    }
    const names = [...snapshot.identityHeaders]
    return unauthorized(names.length === 0 ? undefined : `Send a credential in ${names.join(' or ')}.`)
  }
}

function identifyBy(
  x: Exchange,
  source: ConsumerSource,
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
    case 'ip':
      return identifyByIp(x)
  }
}
