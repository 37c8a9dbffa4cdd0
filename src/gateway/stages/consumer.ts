import type { ConsumerSource } from '../../config/snapshot/consumers.js'
import { createSeenNonces, type SeenNonces } from '../../credentials/seen-nonces.js'
import type { Tokens } from '../../credentials/tokens.js'
import type { Refusal } from '../../errors.js'
import type { Keyring } from '../../fleet/keyring.js'
import type { Exchange } from '../exchange/exchange.js'
import { identifyByApiKey } from '../identify/api-key.js'
import { identifyByCertificate } from '../identify/certificate.js'
import { identifyByHeader } from '../identify/header.js'
import type { Identified } from '../identify/identify.js'
import { identifyByIp } from '../identify/ip.js'
import { identifyByJwt } from '../identify/jwt.js'
import { nobody } from '../identify/missing-credential.js'
import { identifyBySignature } from '../identify/signature.js'

/** What it takes to check credentials that are not in the snapshot. */
export interface Means {
  readonly tokens: Pick<Tokens, 'verify' | 'unknownTier'>
  /** Left out: no API key of the store is known. */
  readonly keyring?: Pick<Keyring, 'find' | 'used'> | undefined
  /** Left out: those that it has seen itself. */
  readonly nonces?: Pick<SeenNonces, 'isNew'> | undefined
}

/**
 * Who is calling. Sources (all, or those that the route will have) are tried in the order of the file, and the
 * first whose credential is there decides: a bad one is 401, never the next source, or a wrong key would be a way to a fresh quota.
 */
export function identifyConsumer(means: Means) {
  const { nonces = createSeenNonces() } = means
  return function identifyConsumer(x: Exchange): Refusal | undefined | Promise<Refusal | undefined> {
    const sources = x.route?.auth?.sources ?? x.snapshot.consumers
    for (const source of sources) {
      const identified = identifyBy(x, source, means, nonces)
      if (identified !== 'absent') return identified
    }
    return nobody(sources)
  }
}

function identifyBy(
  x: Exchange,
  source: ConsumerSource,
  { tokens, keyring }: Means,
  nonces: Pick<SeenNonces, 'isNew'>,
): Identified | Promise<Refusal | undefined> {
  switch (source.kind) {
    case 'api_key':
      return identifyByApiKey(x, source, keyring)
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
