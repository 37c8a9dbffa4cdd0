import type { Share } from '../../shares.js'
import type { Families } from './metric-definitions.js'

/** Brings the figures of the shares up to date: how much is held, and how often somebody found nothing left. */
export function showShares({ shareHeld, shareRefused }: Families, shares: Iterable<Share>): void {
  for (const { name, service, held, refused } of shares) {
    shareHeld.set(held, name, service)
    shareRefused.set(refused.caller, name, service, 'caller')
    shareRefused.set(refused.all, name, service, 'all')
  }
}
