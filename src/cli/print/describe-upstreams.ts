import type { Service } from '../../config/snapshot/snapshot.js'
import { addressOf, type Balance } from '../../config/snapshot/upstream-settings.js'
import { formatDuration } from '../../config/values/quantities.js'

/**
 * Returns a row for each service that has several upstreams, or checks them: where requests go, and how they are
 * balanced.
 */
export function upstreamRows(services: readonly Service[]): string[][] {
  return services.flatMap((service) => {
    const { upstreams, health, slowStart, balance } = service
    if (upstreams.length < 2 && health === undefined) return []
    const even = upstreams.every(({ weight }) => weight === upstreams[0]!.weight)
    const notes = [
      ...(upstreams.length < 2 ? [] : [balanceText(balance)]),
      ...(slowStart === 0 ? [] : [`slow start ${formatDuration(slowStart)}`]),
      ...(health === undefined ? [] : [`checked at ${health.path} every ${formatDuration(health.interval)}`]),
    ]
    return upstreams.map((upstream, i) => [
      i === 0 ? service.name : '',
      addressOf(upstream),
      even ? '' : `weight ${upstream.weight}`,
      i === 0 ? notes.join(', ') : '',
    ])
  })
}

const BALANCE = {
  round_robin: 'in turn',
  least_requests: 'to the one with fewest requests',
  hash_consumer: 'by consumer',
}

function balanceText(balance: Balance): string {
  return balance.kind === 'hash_header' ? `by ${balance.header}` : BALANCE[balance.kind]
}
