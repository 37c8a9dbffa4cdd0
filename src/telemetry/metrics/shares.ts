import type { Share } from '../../shares.js'
import type { Families } from './metric-definitions.js'

/** Updates the metrics of the shares: how much is held, and how often a client was refused. */
export function showShares({ shareHeld, shareRefused }: Families, shares: Iterable<Share>): void {
  for (const { name, service, held, refused } of shares) {
    shareHeld.set(held, name, service)
    shareRefused.set(refused.caller, name, service, 'caller')
    shareRefused.set(refused.all, name, service, 'all')
  }
}
