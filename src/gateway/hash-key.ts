import type { Service } from '../config/snapshot.js'
import type { Exchange } from './exchange.js'
import { identityHeader } from './headers.js'

/** What the service wants the same upstream for; undefined when it does not, or when the request has none of it. */
export function hashKeyOf(x: Exchange, { balance }: Service): string | undefined {
  switch (balance.kind) {
    case 'round_robin':
    case 'least_requests':
      return undefined
    case 'hash_consumer':
      return x.consumer ?? x.clientIp
    case 'hash_header': {
      const { forward } = x.headers
      for (let i = 0; i < forward.length; i += 2) {
        if (forward[i]!.toLowerCase() === balance.header) return forward[i + 1]
      }
      return identityHeader(x.headers, balance.header)
    }
  }
}
