import type { Snapshot } from '../../../src/config/snapshot/snapshot.js'
import type { Refusal } from '../../../src/errors.js'
import { Exchange } from '../../../src/gateway/exchange/exchange.js'
import { readHeaders } from '../../../src/gateway/exchange/headers.js'

export interface Asked {
  readonly method?: string
  readonly target?: string
  /** Flat list: name, value, …; a Host is added if none is there. */
  readonly headers?: readonly string[]
  readonly peer?: string
}

/** Makes an exchange as it enters the first stage, without a server. Throws if its header is refused. */
export function exchangeFor(snapshot: Snapshot, asked: Asked = {}): Exchange {
  const { method = 'GET', target = '/', headers = [], peer = '192.0.2.7' } = asked
  const named = headers.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'host')
  const raw = named ? headers : ['Host', 'gateway.example', ...headers]
  const read = readHeaders(raw, snapshot, snapshot.isTrustedProxy(peer))
  if ('code' in read) throw new Error(`refused: ${(read as Refusal).code}`)
  return new Exchange(snapshot, 'req-1', method, target, read, peer, 0)
}
