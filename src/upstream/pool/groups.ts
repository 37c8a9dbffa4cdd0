import { getOrAdd } from '../../common/maps.js'
import type { Service, Snapshot } from '../../config/snapshot/snapshot.js'
import { addressOf } from '../../config/snapshot/upstream-settings.js'
import { leavesRoom, type Shares } from '../../shares.js'
import { type Asking, type Choice, chooseTarget, createChoice, type Target } from './choose.js'
import type { Names } from './dns.js'
import { cameBack, capacityOf, Endpoint, type Group, settle } from './endpoint.js'
import { checkHealth } from './endpoint-checks.js'
import type { HealthChecks } from './health-check.js'
import type { Transitions } from './transitions.js'
import { createWaitQueue, type WaitQueue } from './wait-queue.js'

/** A request that may wait. */
export interface Waits {
  readonly service: Service
  readonly key: string | undefined
  readonly tried: readonly Target[] | undefined
  readonly asking: Asking
  /** Called when it is its turn. */
  proceed(target: Target): void
  /** Called when nothing has become free in time. */
  waitedTooLong(): void
}

interface QueueingGroup extends Group {
  readonly queue: WaitQueue<Waits>
}

/** The upstreams of a service in one snapshot. */
interface Members extends Choice {
  readonly group: QueueingGroup
}

export interface GroupsDeps {
  readonly now: () => number
  readonly random: () => number
  readonly names: Names
  readonly checks: HealthChecks
  readonly transitions: Transitions
  readonly shares: Pick<Shares, 'open'> | undefined
  /** Closes the connections of an upstream gracefully. */
  readonly leave: (endpoint: Endpoint) => void
}

/** Creates the upstreams of all services, which live across reloads, each with the queue for it. */
export function createGroups({ now, random, names, checks, transitions, shares, leave }: GroupsDeps) {
  const groups = new Map<string, QueueingGroup>()
  const known = new WeakMap<Service, Members>()

  const makeMembers = (service: Service) => membersIn(groupOf(service), service)
  const membersOf = (service: Service) => getOrAdd(known, service, makeMembers)

  /** Endpoints of an outdated snapshot belong to it alone, and are gone with its last request. */
  function membersIn(group: QueueingGroup, service: Service): Members {
    const byAddress = new Map(group.endpoints.map((endpoint) => [endpoint.address, endpoint]))
    const targets = service.upstreams.map((upstream): Target => {
      const known = byAddress.get(addressOf(upstream))
      if (known !== undefined) return { upstream, endpoint: known }
      const endpoint = new Endpoint(group, service, upstream, now())
      endpoint.retired = true
      return { upstream, endpoint }
    })
    const { share } = group
    const mayHave: Choice['leavesRoom'] = ({ caller }, free) =>
      share === undefined || caller === undefined || leavesRoom(share.holders.get(caller) ?? 0, free)
    return { group, ...createChoice(service.balance, targets, random, mayHave) }
  }

  function createGroup(service: Service): QueueingGroup {
    const group: QueueingGroup = {
      service,
      endpoints: [],
      share: shares?.open('connections', 0, 0, service.name),
      queue: createWaitQueue<Waits, Target>({
        find: ({ service: of, key, tried, asking }) => {
          const found = chooseTarget(membersOf(of), key, tried, now, asking)
          return typeof found === 'string' && found !== 'over_share' ? 'nothing' : found
        },
        go: (request, target) => request.proceed(target),
        expired: (request) => request.waitedTooLong(),
        now,
      }),
    }
    groups.set(service.name, group)
    return group
  }

  function groupOf(service: Service): QueueingGroup {
    return groups.get(service.name) ?? createGroup(service)
  }

  /** Updates a group to the snapshot in force. */
  function update(service: Service, isNew: boolean): void {
    const group = groupOf(service)
    const before = new Map(group.endpoints.map((endpoint) => [endpoint.address, endpoint]))
    group.service = service
    group.endpoints = service.upstreams.map((upstream) => {
      const address = addressOf(upstream)
      let endpoint = before.get(address)
      before.delete(address)
      if (endpoint === undefined) {
        endpoint = new Endpoint(group, service, upstream, now())
        // The other upstreams are warm; this one is not.
        if (!isNew) cameBack(endpoint, now())
        watchName(endpoint)
      }
      const same = endpoint.upstream.key === upstream.key && endpoint.connections === service.maxConnections
      if (!same) endpoint.stale = true
      endpoint.upstream = upstream
      endpoint.connections = service.maxConnections
      endpoint.capacity = capacityOf(service, upstream)
      checkHealth(endpoint, checks, transitions, names.lookup, now)
      settle(endpoint, now())
      return endpoint
    })
    for (const endpoint of before.values()) retire(endpoint)
    const connections = group.endpoints.reduce((sum, { capacity }) => sum + capacity, 0)
    shares?.open('connections', connections, connections, service.name)
    known.set(service, membersIn(group, service))
    group.queue.wake()
  }

  function watchName(endpoint: Endpoint): void {
    if (endpoint.name === undefined) return
    endpoint.stopNames = names.watch(endpoint.name, () => {
      endpoint.stale = true
    })
  }

  function retire(endpoint: Endpoint): void {
    endpoint.retired = true
    endpoint.stopChecks()
    endpoint.stopNames()
    if (endpoint.inFlight === 0) leave(endpoint)
  }

  return {
    membersOf,
    of: groupOf,
    get: (service: string): QueueingGroup | undefined => groups.get(service),
    all: (): Iterable<QueueingGroup> => groups.values(),
    clear: (): void => groups.clear(),
    /** Changes to another snapshot. Requests that captured an earlier one end where they began. */
    retain(next: Snapshot): void {
      for (const service of next.services) update(service, !groups.has(service.name))
      const kept = new Set(next.services.map(({ name }) => name))
      for (const [name, group] of groups) {
        if (kept.has(name)) continue
        for (const endpoint of group.endpoints) retire(endpoint)
        group.endpoints = []
        // Waiting requests go on when the last request ends, or when their time is up.
        if (group.queue.length === 0) groups.delete(name)
      }
    },
  }
}
