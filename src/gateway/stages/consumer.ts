import type { ConsumerSource } from '../../config/snapshot/consumers.js'
import { createSeenNonces, type SeenNonces } from '../../credentials/seen-nonces.js'
import type { Tokens } from '../../credentials/tokens.js'
import type { Keyring } from '../../fleet/keyring.js'
import type { Exchange } from '../exchange/exchange.js'
import type { HookRunner } from '../extensions/runner.js'
import { identifyByApiKey } from '../identify/api-key.js'
import { identifyByCertificate } from '../identify/certificate.js'
import { identifyByExtension } from '../identify/extension.js'
import { type Asking, type Ending, identifyByForward } from '../identify/forward.js'
import { identifyByHeader } from '../identify/header.js'
import { identifyByIp } from '../identify/ip.js'
import { identifyByJwt } from '../identify/jwt.js'
import { missingCredential } from '../identify/missing-credential.js'
import { identifyBySignature } from '../identify/signature.js'
import type { StageOutcome } from '../request-lifecycle.js'

/** Dependencies for credentials that the snapshot alone cannot check. */
export interface IdentifyDeps {
  readonly tokens: Pick<Tokens, 'verify' | 'unknownTier'>
  /** Left out: API keys of the store are unknown. */
  readonly keyring?: Pick<Keyring, 'find' | 'isWhole' | 'used'> | undefined
  /** Left out: no service can be asked, and what one has to decide on gets 503. */
  readonly forwardAuth?: Asking | undefined
  /** Left out: only nonces that this stage has seen itself are known. */
  readonly nonces?: Pick<SeenNonces, 'isNew'> | undefined
  readonly runHooks: HookRunner
}

/**
 * Creates the stage that identifies the caller. It tries the sources (all, or those that the route accepts) in the order of
 * the configuration file. The first whose credential is present decides: a bad credential is 401 and never leads to the
 * next source. Otherwise a wrong key would be a way to a fresh quota.
 */
export function identifyConsumer(means: IdentifyDeps) {
  const { nonces = createSeenNonces() } = means

  function tryFrom(
    x: Exchange,
    sources: readonly ConsumerSource[],
    first: number,
  ): StageOutcome | Promise<StageOutcome> {
    for (let i = first; i < sources.length; i++) {
      const source = sources[i]!
      if (source.kind === 'extension') {
        const identified = identifyByExtension(x, source, means.runHooks)
        if (identified instanceof Promise)
          return identified.then((late) => (late === 'absent' ? tryFrom(x, sources, i + 1) : late))
        if (identified !== 'absent') return identified
      } else {
        const identified = identifyBy(x, source, means, nonces)
        if (identified !== 'absent') return identified
      }
    }
    return missingCredential(sources)
  }

  return (x: Exchange) => tryFrom(x, x.route?.auth?.sources ?? x.snapshot.consumers, 0)
}

function identifyBy(
  x: Exchange,
  source: Exclude<ConsumerSource, { kind: 'extension' }>,
  { tokens, keyring, forwardAuth }: IdentifyDeps,
  nonces: Pick<SeenNonces, 'isNew'>,
): Ending | 'absent' | Promise<Ending> {
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
    case 'forward':
      return identifyByForward(x, source, forwardAuth)
    case 'ip':
      return identifyByIp(x)
  }
}
