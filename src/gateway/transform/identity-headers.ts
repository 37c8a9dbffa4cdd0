import type { Identity, IdentityToken } from '../../config/snapshot/snapshot.js'
import { createIdentitySigner, type IdentitySigner } from '../../credentials/identity-token.js'
import type { Exchange } from '../exchange/exchange.js'
import { removeField } from '../exchange/header-list.js'
import { fieldText } from './header-rules.js'

/**
 * Adds what the upstreams of a service are told of who is calling. A caller that is known by its address only has no id:
 * a backend should not take an address for a consumer of that name.
 */
export function pushIdentity(out: string[], x: Exchange, { headers, token }: Identity): void {
  const tier = x.snapshot.tiers[x.tier]!
  const consumer = x.identifiedBy === 'ip' ? undefined : x.consumer!
  if (headers) {
    if (consumer !== undefined) out.push('X-Consumer-Id', fieldText(consumer))
    out.push('X-Consumer-Tier', tier)
    if (x.tenant !== undefined) out.push('X-Consumer-Tenant', fieldText(x.tenant))
  }
  if (token === undefined) return
  const text = signerOf(token)(
    { consumer, tier, tenant: x.tenant, identifiedBy: x.identifiedBy! },
    Date.now(),
  )
  if (token.header === 'authorization') {
    // Of the fields of ours the only one that callers may send.
    removeField(out, 'authorization')
    out.push('Authorization', `Bearer ${text}`)
  } else out.push(token.header, text)
}

/** With the snapshot they go, and the tokens that they keep. */
const signers = new WeakMap<IdentityToken, IdentitySigner>()

function signerOf(token: IdentityToken): IdentitySigner {
  let signer = signers.get(token)
  if (signer === undefined) {
    signer = createIdentitySigner(token)
    signers.set(token, signer)
  }
  return signer
}
