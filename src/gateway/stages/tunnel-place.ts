import type { Refusal } from '../../errors.js'
import { give, type Shares, take } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'
import { callerOf } from '../identify/caller.js'
import { retrySoon } from '../respond/client-error.js'

/**
 * Creates the stage that takes a tunnel from the service's and the caller's share, before any quota is taken. `leaveTunnel`
 * gives it back.
 */
export function takeTunnel(shares: Shares) {
  return function takeTunnel(x: Exchange): Refusal | undefined {
    const { service } = x.route!
    const share = shares.open('tunnels', service.maxTunnels, service.maxTunnelsPerClient, service.name)
    const caller = callerOf(x, shares)
    const shortage = take(share, caller)
    if (shortage === undefined) {
      x.tunnel = { share, caller }
      return undefined
    }
    const code = shortage === 'caller' ? 'share_exceeded' : 'overloaded'
    const cause = `${share.held} tunnels of ${service.name} are open, ${share.holders.get(caller ?? '') ?? 0} of this caller`
    return retrySoon({ code, cause })
  }
}

export function leaveTunnel(x: Exchange): void {
  const { tunnel } = x
  if (tunnel === undefined) return
  x.tunnel = undefined
  give(tunnel.share, tunnel.caller)
}
