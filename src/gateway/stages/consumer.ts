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
import { missingCredential } from '../identify/missing-credential.js'
import { identifyBySignature } from '../identify/signature.js'

/** Dependencies for credentials that the snapshot alone cannot check. */
export interface IdentifyDeps {
  readonly tokens: Pick<Tokens, 'verify' | 'unknownTier'>
  /** Left out: API keys of the store are unknown. */
  readonly keyring?: Pick<Keyring, 'find' | 'isWhole' | 'used'> | undefined
  /** Left out: only nonces that this stage has seen itself are known. */
  readonly nonces?: Pick<SeenNonces, 'isNew'> | undefined
}

/**
 * Creates the stage that identifies the caller. It tries the sources (all, or those that the route accepts) in the order of
 * the configuration file. The first whose credential is present decides: a bad credential is 401 and never leads to the
 * next source. Otherwise a wrong key would be a way to a fresh quota.
 */
export function identifyConsumer(means: IdentifyDeps) {
  const { nonces = createSeenNonces() } = means
  return function identifyConsumer(x: Exchange): Refusal | undefined | Promise<Refusal | undefined> {
    const sources = x.route?.auth?.sources ?? x.snapshot.consumers
    for (const source of sources) {
      const identified = identifyBy(x, source, means, nonces)
      if (identified !== 'absent') return identified
    }
    return missingCredential(sources)
  }
}

function identifyBy(
  x: Exchange,
  source: ConsumerSource,
  { tokens, keyring }: IdentifyDeps,
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
    case 'extension':
      return 'absent'
    case 'ip':
      return identifyByIp(x)
  }
}
