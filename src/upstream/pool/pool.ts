import { performance } from 'node:perf_hooks'
import type { Service, Snapshot } from '../../config/snapshot/snapshot.js'
import type { Log } from '../../log-throttle.js'
import { type Shares, take } from '../../shares.js'
import type { Sender } from '../sender.js'
import { type Asking, chooseTarget, isScarce, type NoTarget, type Target } from './choose.js'
import { openSender } from './connections.js'
import { createNames, type Names } from './dns.js'
import { cameBack, type Endpoint, type Group, restate, settle } from './endpoint.js'
import { createGroups, type Waits } from './groups.js'
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

/** The upstreams of all services: which of them a request gets, how they do, and the connections to them. */
export type Upstreams = ReturnType<typeof createUpstreams>

export function createUpstreams(initial: Snapshot, options: UpstreamsOptions = {}) {
  const { now = () => performance.now(), random = Math.random, log, shares } = options
  const names = options.names ?? createNames()
  const checks = createHealthChecks(random)
  const transitions = createTransitions(now, names, log)
  const groups = createGroups({ now, random, names, checks, transitions, shares, leave })
  const pools = new Set<Sender>()

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

  /** Counts a caller that must wait although a connection is free. */
  function countOver({ share }: Group, { caller }: Asking): void {
    share!.refused.caller++
    share!.onRefused?.(share!, caller!)
  }

  groups.retain(initial)

  return {
    /**
     * Picks the upstream for the next request of a service.
     *
     * @param key requests with the same key get the same upstream, if the service balances by a hash
     * @param tried upstreams that this request has tried
     * @param asking caller of the request; left out, it takes what is free
     */
    pick(service: Service, key?: string, tried?: readonly Target[], asking?: Asking): Target | NoTarget {
      const members = groups.membersOf(service)
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
      return chooseTarget(groups.membersOf(service), key, tried, now, undefined, true) as Target | NoTarget
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
      const { queue } = groups.of(request.service)
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
      for (const { endpoints } of groups.all()) {
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
      for (const { service, queue } of groups.all()) yield [service.name, queue.length]
    },
    /** Returns every configured upstream, for operators. */
    describe: (): UpstreamState[] =>
      [...groups.all()].flatMap(({ endpoints }) =>
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
    retain: groups.retain,
    async close(): Promise<void> {
      checks.close()
      names.close()
      for (const { queue } of groups.all()) queue.close()
      groups.clear()
      await Promise.all([...pools].map((pool) => pool.destroy()))
    },
  }
}
