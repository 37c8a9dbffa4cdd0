import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Exchange } from '../exchange/exchange.js'
import { Upgrade, type UpgradeContext, type UpgradeDeps } from './upgrade.js'
import { createWsProxy } from './ws-proxy.js'

export type Upgrades = ReturnType<typeof createUpgrades>

/** Creates the last stage of upgrades, in place of `forward`. It knows those under way, for drains and revocations. */
export function createUpgrades(deps: UpgradeDeps) {
  const open = new Set<Upgrade>()
  const gateway: UpgradeContext = {
    ...deps,
    ask: createWsProxy(deps.upstreams.lookup),
    open,
    leaving: false,
    left: () => {},
  }
  return {
    // Node's type is Duplex, for those who bring sockets of their own.
    /**
     * Takes over a socket that Node has handed over with an upgrade request. Nothing that the client sends reaches the
     * upstream before it has switched protocols.
     *
     * @param head bytes that the client sent behind its header
     * @param ended called once, when the exchange has its outcome: for a tunnel, when both sides are closed
     */
    begin: (x: Exchange, req: IncomingMessage, socket: Duplex, head: Buffer, ended: (x: Exchange) => void) =>
      new Upgrade(gateway, x, req, socket as Socket, head, ended),
    /** Ends the tunnels, and refuses the handshakes under way, of clients that may no longer stay. */
    turnAway(): void {
      for (const one of [...open]) one.attempt(() => one.turnAway())
    },
    /**
     * Drains: sends every tunnel's client a Close 1001 and ends it; handshakes from now on get 503.
     *
     * @returns resolves when everything that was under way has its outcome
     */
    leave(): Promise<void> {
      gateway.leaving = true
      for (const one of open) one.attempt(() => one.leave())
      return new Promise((resolve) => {
        gateway.left = resolve
        if (open.size === 0) resolve()
      })
    },
  }
}
