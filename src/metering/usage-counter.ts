import type { Config } from '../config/schema/schema.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import { statusesOf } from '../config/values/status-codes.js'
import { perSnapshot } from '../telemetry/record/per-snapshot.js'
import type { RequestRecord } from '../telemetry/record/record.js'
import { COLUMN, COLUMNS, filteredStatuses } from './columns.js'
import { createUsageTable, type Place, type UsageTable } from './usage-table.js'

/** Groups of one service, tier and route in the present interval. */
interface PlaceGroups {
  readonly place: Place
  /** First group of each consumer, or of each tenant if consumers are not told apart. */
  readonly members: Map<string, number>
  /** Groups of consumers that came with another tenant, by both. */
  readonly membersOfTenants: Map<string, number>
  /** Group of callers without an id of their own; -1 until there is one. */
  anonymous: number
  /** Group of all that came when there were as many groups as allowed; -1 until there is one. */
  others: number
}

/** Labels of the two groups that stand for many consumers. No id has half a surrogate pair. */
export const ANONYMOUS = '\ud800anonymous'
export const OTHERS = '\ud800others'

export interface UsageCounter {
  /** Counts a finished request. */
  record(r: RequestRecord): void
  /** Returns the counts of the present interval. */
  table(): UsageTable
  /** Begins another interval, and returns the counts of the one before. */
  rotate(from: number): UsageTable
}

/**
 * Creates the counter of what consumers use: requests that were sent to an upstream, and requests that the limiter denied.
 * It costs a request two look-ups, and allocates for the first request of a group only.
 *
 * @param from start of the first interval, in unix ms
 */
export function createUsageCounter(settings: NonNullable<Config['metering']>, from: number): UsageCounter {
  const { by, count, addresses, max_groups: most } = settings
  const [hasConsumer, hasTenant] = [by.includes('consumer'), by.includes('tenant')]
  const filters = filteredStatuses(count).map((status) => new Set(statusesOf(status)))
  let table = createUsageTable(from, filters.length)
  let interned = new Map<string, PlaceGroups>()
  let placesOf = perSnapshot((): (PlaceGroups | undefined)[] => [])

  function placeOf(r: RequestRecord): PlaceGroups {
    const { snapshot, route } = r
    const places = placesOf(snapshot)
    const at = route!.index * snapshot.tiers.length + r.tier
    const known = places[at]
    if (known !== undefined) return known
    const place = placeIn(snapshot, r)
    const key = JSON.stringify(place)
    const found = interned.get(key) ?? {
      place,
      members: new Map(),
      membersOfTenants: new Map(),
      anonymous: -1,
      others: -1,
    }
    interned.set(key, found)
    places[at] = found
    return found
  }

  function placeIn({ tiers }: Snapshot, { route, tier }: RequestRecord): Place {
    return {
      service: by.includes('service') ? route!.service.name : null,
      tier: by.includes('tier') ? tiers[tier]! : null,
      route: by.includes('route') ? route!.label : null,
    }
  }

  function groupOf(r: RequestRecord): number {
    const groups = placeOf(r)
    if (!hasConsumer && !hasTenant) return memberOf(groups, '', null, null)
    if (r.identifiedBy === 'ip' && !addresses) {
      if (groups.anonymous < 0) groups.anonymous = table.add(groups.place, ANONYMOUS, null)
      return groups.anonymous
    }
    const consumer = hasConsumer ? r.consumer! : null
    // Where consumers are not told apart, one without a tenant is its own tenant, as for limits.
    const tenant = !hasTenant ? null : hasConsumer ? (r.tenant ?? null) : (r.tenant ?? r.consumer!)
    return memberOf(groups, consumer ?? tenant!, consumer, tenant)
  }

  function memberOf(
    groups: PlaceGroups,
    key: string,
    consumer: string | null,
    tenant: string | null,
  ): number {
    const first = groups.members.get(key)
    if (first === undefined) return added(groups, groups.members, key, consumer, tenant)
    if (table.tenantOf(first) === tenant) return first
    const both = `${key.length} ${key}${tenant}`
    return groups.membersOfTenants.get(both) ?? added(groups, groups.membersOfTenants, both, consumer, tenant)
  }

  function added(
    groups: PlaceGroups,
    members: Map<string, number>,
    key: string,
    consumer: string | null,
    tenant: string | null,
  ): number {
    if (table.size() >= most) {
      if (groups.others < 0) groups.others = table.add(groups.place, OTHERS, null)
      return groups.others
    }
    const made = table.add(groups.place, consumer, tenant)
    members.set(key, made)
    return made
  }

  return {
    record(r) {
      const { route, decision } = r
      if (route === undefined || r.consumer === undefined || r.tier < 0) return
      // Without the store nobody decided: a refusal is not the limit's.
      const denied = decision?.allowed === false && decision.decidedBy !== 'closed'
      if (r.upstream === undefined && !denied) return
      const index = groupOf(r)
      const counts = table.countsOf(index)
      const at = table.startOf(index)
      counts[at + COLUMN.request_bytes]! += r.bytesIn
      counts[at + COLUMN.response_bytes]! += r.bytesOut
      if (denied) {
        counts[at + COLUMN.denied]! += 1
        return
      }
      const cost = r.cost ?? route.cost
      counts[at + COLUMN.requests]! += 1
      counts[at + COLUMN.cost]! += cost
      if (decision !== undefined) {
        if (decision.decidedBy === 'open') counts[at + COLUMN.fail_open]! += 1
        else if (decision.decidedBy === 'local') counts[at + COLUMN.local]! += 1
        if (cost === 0) counts[at + COLUMN.refunded]! += 1
      }
      for (let i = 0; i < filters.length; i++) {
        if (filters[i]!.has(r.status)) counts[at + COLUMNS.length + i]! += 1
      }
    },
    table: () => table,
    rotate(next) {
      const before = table
      table = createUsageTable(next, filters.length)
      interned = new Map()
      placesOf = perSnapshot((): (PlaceGroups | undefined)[] => [])
      return before
    },
  }
}
