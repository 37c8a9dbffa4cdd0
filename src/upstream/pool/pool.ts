import { performance } from 'node:perf_hooks'
import type { Service, Snapshot } from '../../config/snapshot/snapshot.js'
import { addressOf } from '../../config/snapshot/upstream-settings.js'
import type { Log } from '../../log-throttle.js'
import { leavesRoom, type Shares, take } from '../../shares.js'
import type { Sender } from '../sender.js'
import {
  type Asking,
  type Choice,
  chooseTarget,
  createChoice,
  isScarce,
  type NoTarget,
  type Target,
} from './choose.js'
import { openSender } from './connections.js'
import { createNames, type Names } from './dns.js'
import { cameBack, capacityOf, Endpoint, type Group, restate, settle } from './endpoint.js'
import { checkHealth } from './endpoint-checks.js'
import { createHealthChecks } from './health-check.js'
import { goodConduct } from './outliers.js'
import {
  describeEndpoint,
  findEndpoint,
  readingOf,
  type UpstreamReading,
  type UpstreamState,
} from './state.js'
import { type AttemptOutcome, createTransitions } from './transitions.js'
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

export interface UpstreamsOptions {
  /** Returns ms that never go back. */
  readonly now?: () => number
  /** Returns a number from 0 to below 1. */
  readonly random?: () => number
  readonly names?: Names
  /** Counts the connections of each caller. Left out: they are not counted, and one caller may have all. */
  readonly shares?: Pick<Shares, 'open'> | undefined
  /** Logs when an upstream comes or goes, for each state at most once a second. */
  readonly log?: Log
}

interface QueueingGroup extends Group {
  readonly queue: WaitQueue<Waits>
}

/** The upstreams of a service in one snapshot. */
interface Members extends Choice {
  readonly group: QueueingGroup
}

/** The upstreams of all services: which of them a request gets, how they do, and the connections to them. */
export type Upstreams = ReturnType<typeof createUpstreams>

export function createUpstreams(initial: Snapshot, options: UpstreamsOptions = {}) {
  const { now = () => performance.now(), random = Math.random, log, shares } = options
  const names = options.names ?? createNames()
  const checks = createHealthChecks(random)
  const transitions = createTransitions(now, names, log)
  const groups = new Map<string, QueueingGroup>()
  const known = new WeakMap<Service, Members>()
  const pools = new Set<Sender>()

  // Pools

  function open(endpoint: Endpoint): Sender {
    const pool = openSender(endpoint.upstream, endpoint.connections, names.lookup)
    pools.add(pool)
    endpoint.pool = pool
    endpoint.stale = false
    return pool
  }

  /** Closes gracefully: requests in flight complete. A failure needs no report. */
  function leave(endpoint: Endpoint): void {
    const { pool } = endpoint
    if (pool === undefined) return
    endpoint.pool = undefined
    const gone = () => pools.delete(pool)
    pool.close().then(gone, gone)
  }

  // Choice

  function membersOf(service: Service): Members {
    let members = known.get(service)
    if (members === undefined) {
      members = membersIn(groupOf(service), service)
      known.set(service, members)
    }
    return members
  }

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

  /** Counts a caller that must wait although a connection is free. */
  function countOver({ share }: Group, { caller }: Asking): void {
    share!.refused.caller++
    share!.onRefused?.(share!, caller!)
  }

  // Groups

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

  for (const service of initial.services) update(service, true)

  return {
    /**
     * Picks the upstream for the next request of a service.
     *
     * @param key requests with the same key get the same upstream, if the service balances by a hash
     * @param tried upstreams that this request has tried
     * @param asking caller of the request; left out, it takes what is free
     */
    pick(service: Service, key?: string, tried?: readonly Target[], asking?: Asking): Target | NoTarget {
      const members = membersOf(service)
      const { queue } = members.group
      let found = chooseTarget(members, key, tried, now, asking)
      // No request overtakes those that wait, if there is something for them. A free upstream may be one that they have
      // tried, or one that came back because its time was over, which wakes no request.
      if (queue.length > 0 && typeof found !== 'string') {
        const before = queue.length
        queue.wake()
        if (queue.length !== before) found = chooseTarget(members, key, tried, now, asking)
      }
      if (found !== 'over_share') return found
      countOver(members.group, asking!)
      return 'busy'
    },
    /**
     * Picks an upstream for a tunnel, which takes none of the connections. Every `tunnelBegun` needs its `tunnelEnded`.
     */
    pickForTunnel(service: Service, key?: string, tried?: readonly Target[]): Target | NoTarget {
      // A request without a caller cannot exceed a share.
      return chooseTarget(membersOf(service), key, tried, now, undefined, true) as Target | NoTarget
    },
    tunnelBegun({ endpoint }: Target): void {
      endpoint.tunnels++
    },
    tunnelEnded({ endpoint }: Target, outcome: AttemptOutcome, why = ''): void {
      endpoint.tunnels--
      transitions.ended(endpoint, outcome, why)
    },
    /**
     * Queues a request that found all upstreams busy, behind the waiting ones of its caller.
     *
     * @returns a function that removes it before its turn; undefined when too many wait already
     */
    wait(request: Waits): (() => void) | undefined {
      const { queue } = groupOf(request.service)
      const { maxWait, maxWaiting } = request.service
      const waiting = queue.push(request, now() + maxWait, request.asking.caller, maxWaiting)
      return waiting && (() => queue.remove(waiting))
    },
    /** Resolves the names of upstreams, for connections that are made elsewhere. */
    lookup: names.lookup,
    /**
     * Begins a request to the target: its pool stays open until `ended`. Every `begun` needs its `ended`; return the
     * place that was given here before that.
     */
    begun({ endpoint }: Target, asking?: Asking): Sender {
      if (endpoint.stale) leave(endpoint)
      if (asking !== undefined && isScarce(endpoint)) {
        const { share } = endpoint.group
        const { caller } = asking
        if (share !== undefined && take(share, caller) === undefined) asking.place = { share, caller }
      }
      endpoint.inFlight++
      return endpoint.pool ?? open(endpoint)
    },
    /** Records that headers arrived: the target is reachable. */
    answered({ endpoint }: Target): void {
      if (endpoint.unreachableUntil === 0) return
      endpoint.unreachableUntil = 0
      transitions.change(endpoint, () => cameBack(endpoint, now()))
    },
    /** Returns true if an unsent request to the target waits for a connection to be made, and not for its turn on one. */
    connecting: ({ endpoint }: Target): boolean => endpoint.pool?.connecting ?? true,
    /**
     * Records that there was no connection in time; `ended` reports the outcome later.
     *
     * @param why as for `ended`
     */
    unreachable({ endpoint }: Target, why: string): void {
      transitions.ended(endpoint, 'unreachable', why)
    },
    /**
     * Ends a request.
     *
     * @param why for operators; may contain addresses
     */
    ended({ endpoint }: Target, outcome: AttemptOutcome, why = ''): void {
      endpoint.inFlight--
      transitions.ended(endpoint, outcome, why)
      if (endpoint.retired && endpoint.inFlight === 0) leave(endpoint)
      const { queue } = endpoint.group
      if (queue.length > 0) queue.wake(1)
    },
    /** Returns every configured upstream, for the metrics. */
    *health(): Iterable<UpstreamReading> {
      for (const { endpoints } of groups.values()) {
        for (const endpoint of endpoints) {
          settle(endpoint, now())
          yield readingOf(endpoint)
        }
      }
    },
    /** Returns true if requests of other callers wait for the service. */
    othersWait: ({ name }: Service, caller: string | undefined): boolean =>
      groups.get(name)?.queue.othersWait(caller) === true,
    /** Returns the number of waiting requests by service. */
    *waiting(): Iterable<readonly [service: string, count: number]> {
      for (const [name, { queue }] of groups) yield [name, queue.length]
    },
    /** Returns every configured upstream, for operators. */
    describe: (): UpstreamState[] =>
      [...groups.values()].flatMap(({ endpoints }) =>
        endpoints.map((endpoint) => describeEndpoint(endpoint, now(), names)),
      ),
    /**
     * Drains or restores an upstream by hand. This holds until the next call, or until the configuration drops the
     * address.
     *
     * @param address as in `describe`, or its host and port if they are unique
     * @returns undefined when there is no such upstream
     */
    setState(service: string, address: string, state: 'drained' | 'serving'): UpstreamState | undefined {
      const endpoint = findEndpoint(groups.get(service)?.endpoints ?? [], address)
      if (endpoint === undefined) return undefined
      transitions.change(endpoint, () => {
        endpoint.drained = state === 'drained'
        if (endpoint.drained) restate(endpoint, now())
        else if (endpoint.state === 'drained' || endpoint.state === 'ejected') {
          // An operator that declares it healthy also clears its failures.
          endpoint.conduct = goodConduct()
          endpoint.ejectedUntil = 0
          cameBack(endpoint, now())
        }
      })
      return describeEndpoint(endpoint, now(), names)
    },
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
    async close(): Promise<void> {
      checks.close()
      names.close()
      for (const { queue } of groups.values()) queue.close()
      groups.clear()
      await Promise.all([...pools].map((pool) => pool.destroy()))
    },
  }
}
