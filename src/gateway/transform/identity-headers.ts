import { getOrAdd } from '../../common/maps.js'
import type { Identity, IdentityToken } from '../../config/snapshot/identity.js'
import { createIdentitySigner, type IdentitySigner } from '../../credentials/identity-token.js'
import type { Exchange } from '../exchange/exchange.js'
import { removeField } from '../exchange/header-list.js'
import { fieldText } from './header-rules.js'

/**
 * Adds the headers that describe the client to the upstreams of a service. A client known only by its address has no
 * id: a backend should not mistake an address for a consumer of that name.
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
  const text = getOrAdd(
    signers,
    token,
    createIdentitySigner,
  )({ consumer, tier, tenant: x.tenant, identifiedBy: x.identifiedBy! }, Date.now())
  if (token.header === 'authorization') {
    // The only one of the gateway's headers that clients may send.
    removeField(out, 'authorization')
    out.push('Authorization', `Bearer ${text}`)
  } else out.push(token.header, text)
}

/** Signers with their cached tokens. They are dropped with the snapshot. */
const signers = new WeakMap<IdentityToken, IdentitySigner>()
