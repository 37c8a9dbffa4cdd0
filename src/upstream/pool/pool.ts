import type { LookupFunction } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Service, Snapshot } from '../../config/snapshot/snapshot.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { addressOf } from '../../config/snapshot/upstream-settings.js'
import { createThrottle } from '../../log-throttle.js'
import { leavesRoom, type Share, type Shares, take } from '../../shares.js'
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
import {
  cameBack,
  capacityOf,
  couldNotReach,
  Endpoint,
  type EndpointState,
  restate,
  settle,
  shareOf,
} from './endpoint.js'
import { createHealthChecks } from './health-check.js'
import { eject, goodConduct, judge, mayEject } from './outliers.js'
import { describeEndpoint, readingOf, type UpstreamReading, type UpstreamState } from './state.js'
import { createWaitQueue, type WaitQueue } from './wait-queue.js'

/**
 * Result of a request, as far as it concerns the upstream. unreachable: no connection could be made; unknown: it was
 * aborted for other reasons.
 */
export type AttemptOutcome = 'well' | 'failed' | 'unreachable' | 'unknown'

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

export interface Upstreams {
  /**
   * Picks the upstream for the next request of a service.
   *
   * @param key requests with the same key get the same upstream, if the service balances by a hash
   * @param tried upstreams that this request has tried
   * @param asking caller of the request; left out, it takes what is free
   */
  pick(service: Service, key?: string, tried?: readonly Target[], asking?: Asking): Target | NoTarget
  /**
   * Picks an upstream for a tunnel, which takes none of the connections. Every `tunnelBegun` needs its `tunnelEnded`.
   */
  pickForTunnel(service: Service, key?: string, tried?: readonly Target[]): Target | NoTarget
  tunnelBegun(target: Target): void
  tunnelEnded(target: Target, outcome: AttemptOutcome, why?: string): void
  /**
   * Queues a request that found all upstreams busy, behind the waiting ones of its caller.
   *
   * @returns a function that removes it before its turn; undefined when too many wait already
   */
  wait(request: Waits): (() => void) | undefined
  /** Resolves the names of upstreams, for connections that are made elsewhere. */
  readonly lookup: LookupFunction
  /**
   * Begins a request to the target: its pool stays open until `ended`. Every `begun` needs its `ended`; return the
   * place that was given here before that.
   */
  begun(target: Target, asking?: Asking): Sender
  /** Records that headers arrived: the target is reachable. */
  answered(target: Target): void
  /** Returns true if an unsent request to the target waits for a connection to be made, and not for its turn on one. */
  connecting(target: Target): boolean
  /**
   * Records that there was no connection in time; `ended` reports the outcome later.
   *
   * @param why as for `ended`
   */
  unreachable(target: Target, why: string): void
  /**
   * Ends a request.
   *
   * @param why for operators; may contain addresses
   */
  ended(target: Target, outcome: AttemptOutcome, why?: string): void
  /** Returns every configured upstream, for the metrics. */
  health(): Iterable<UpstreamReading>
  /** Returns true if requests of other callers wait for the service. */
  othersWait(service: Service, caller: string | undefined): boolean
  /** Returns the number of waiting requests by service. */
  waiting(): Iterable<readonly [service: string, count: number]>
  /** Returns every configured upstream, for operators. */
  describe(): UpstreamState[]
  /**
   * Drains or restores an upstream by hand. This holds until the next call, or until the configuration drops the
   * address.
   *
   * @param address as in `describe`, or its host and port if they are unique
   * @returns undefined when there is no such upstream
   */
  setState(service: string, address: string, state: 'drained' | 'serving'): UpstreamState | undefined
  /** Changes to another snapshot. Requests that captured an earlier one end where they began. */
  retain(snapshot: Snapshot): void
  close(): Promise<void>
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
  readonly log?: { info(fields: object, message: string): void; warn(fields: object, message: string): void }
}

/** State that a service's upstreams share, across reloads. */
interface Group {
  /** Settings in the snapshot in force. */
  service: Service
  /** Endpoints of the snapshot in force. */
  endpoints: readonly Endpoint[]
  readonly queue: WaitQueue<Waits>
  /** Share of the connections, while they are scarce. */
  readonly share: Share | undefined
}

/** The upstreams of a service in one snapshot. */
interface Members extends Choice {
  readonly group: Group
}

export function createUpstreams(initial: Snapshot, options: UpstreamsOptions = {}): Upstreams {
  const { now = () => performance.now(), random = Math.random, log, shares } = options
  const names = options.names ?? createNames()
  const checks = createHealthChecks(random)
  const groups = new Map<string, Group>()
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
  function membersIn(group: Group, service: Service): Members {
    const byAddress = new Map(group.endpoints.map((endpoint) => [endpoint.address, endpoint]))
    const targets = service.upstreams.map((upstream): Target => {
      const known = byAddress.get(addressOf(upstream))
      if (known !== undefined) return { upstream, endpoint: known }
      const endpoint = new Endpoint(service, upstream, now())
      endpoint.retired = true
      return { upstream, endpoint }
    })
    const { share } = group
    const mayHave: Choice['leavesRoom'] = ({ caller }, free) =>
      share === undefined || caller === undefined || leavesRoom(share.holders.get(caller) ?? 0, free)
    return { group, ...createChoice(service.balance, targets, random, mayHave) }
  }

  function choose(
    members: Members,
    key: string | undefined,
    tried: readonly Target[] | undefined,
    asking: Asking | undefined,
  ) {
    return chooseTarget(members, members.group.service.slowStart, key, tried, now, asking)
  }

  /** Counts a caller that must wait although a connection is free. */
  function countOver({ share }: Group, { caller }: Asking): void {
    share!.refused.caller++
    share!.onRefused?.(share!, caller!)
  }

  function takePlace({ service }: Endpoint, asking: Asking): void {
    const share = groups.get(service)?.share
    const { caller } = asking
    if (share !== undefined && take(share, caller) === undefined) asking.place = { share, caller }
  }

  // Groups

  function createGroup(service: Service): Group {
    const group: Group = {
      service,
      endpoints: [],
      share: shares?.open('connections', 0, 0, service.name),
      queue: createWaitQueue<Waits, Target>({
        find: ({ service: of, key, tried, asking }) => {
          const found = choose(membersOf(of), key, tried, asking)
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

  function groupOf(service: Service): Group {
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
        endpoint = new Endpoint(service, upstream, now())
        // The other upstreams are warm; this one is not.
        if (!isNew) cameBack(endpoint, service.slowStart, now())
        watchName(endpoint)
      }
      const same = endpoint.upstream.key === upstream.key && endpoint.connections === service.maxConnections
      if (!same) endpoint.stale = true
      endpoint.upstream = upstream
      endpoint.connections = service.maxConnections
      endpoint.capacity = capacityOf(service, upstream)
      watchHealth(endpoint, service, upstream)
      settle(endpoint, service.slowStart, now())
      return endpoint
    })
    for (const endpoint of before.values()) retire(endpoint)
    const connections = group.endpoints.reduce((sum, { capacity }) => sum + capacity, 0)
    shares?.open('connections', connections, connections, service.name)
    known.set(service, membersIn(group, service))
    group.queue.wake()
  }

  function retire(endpoint: Endpoint): void {
    endpoint.retired = true
    endpoint.stopChecks()
    endpoint.stopNames()
    if (endpoint.inFlight === 0) leave(endpoint)
  }

  function watchName(endpoint: Endpoint): void {
    if (endpoint.name === undefined) return
    endpoint.stopNames = names.watch(endpoint.name, () => {
      endpoint.stale = true
    })
  }

  function watchHealth(endpoint: Endpoint, service: Service, upstream: Upstream): void {
    const { health } = service
    const key =
      health === undefined
        ? ''
        : JSON.stringify([upstream.key, { ...health, statuses: [...health.statuses] }])
    if (key === endpoint.checkKey) return
    endpoint.stopChecks()
    endpoint.checkKey = key
    if (health === undefined) {
      endpoint.stopChecks = () => {}
      endpoint.lastCheck = undefined
      endpoint.failing = false
      restate(endpoint, now())
      return
    }
    const subject = {
      settings: health,
      host: upstream.host,
      open: () => openSender(upstream, 1, names.lookup),
    }
    endpoint.stopChecks = checks.watch(key, subject, (result, up) => {
      endpoint.lastCheck = result
      if (result.passed) endpoint.checksPassed++
      else endpoint.checksFailed++
      // An upstream that was unreachable, and was ejected for it, is reachable again.
      const found = up === true && endpoint.unreachableUntil !== 0
      if (found) {
        endpoint.unreachableUntil = 0
        endpoint.ejectedUntil = 0
      } else if (up === undefined || up !== endpoint.failing) return
      endpoint.failing = !up
      changed(endpoint, () => {
        if (up) cameBack(endpoint, slowStartOf(endpoint), now())
        else restate(endpoint, now())
      })
    })
  }

  /** Returns the slow start in the snapshot in force. */
  function slowStartOf(endpoint: Endpoint): number {
    return groups.get(endpoint.service)?.service.slowStart ?? 0
  }

  // State changes

  /** Makes a change that may bring an upstream back or take it out, and logs the result. */
  function changed(endpoint: Endpoint, change: () => void): void {
    const { state } = endpoint
    change()
    if (endpoint.state === state) return
    tell(endpoint)
    groups.get(endpoint.service)?.queue.wake()
  }

  const throttles = new WeakMap<Endpoint, Map<EndpointState, () => number>>()
  function tell(endpoint: Endpoint): void {
    if (log === undefined) return
    // An upstream that flaps with every request must not fill the log.
    const ofStates = throttles.get(endpoint) ?? new Map<EndpointState, () => number>()
    const throttle = ofStates.get(endpoint.state) ?? createThrottle(1000, now)
    throttles.set(endpoint, ofStates.set(endpoint.state, throttle))
    if (throttle() < 0) return
    const { service, address, state, why } = describeOne(endpoint)
    const fields = { service, upstream: address, state, ...(why === null ? {} : { why }) }
    if (state === 'ejected' || state === 'unhealthy') log.warn(fields, 'an upstream is left out')
    else log.info(fields, state === 'drained' ? 'an upstream was drained' : 'an upstream is given requests')
  }

  /** Records the result of a request, and ejects an upstream that fails too often. */
  function assess(endpoint: Endpoint, failed: boolean, why: string): void {
    const group = groups.get(endpoint.service)
    const { outliers } = group?.service ?? {}
    if (group === undefined || outliers === undefined || endpoint.ejectedUntil !== 0) return
    // The only upstream is never ejected, so nothing is counted.
    if (group.endpoints.length < 2) return
    const time = now()
    const reason = judge(endpoint.conduct, outliers, failed, time)
    if (reason === undefined) return
    let all = 0
    let out = 0
    for (const one of group.endpoints) {
      if (one.drained) continue
      all++
      if (one.failing || one.ejectedUntil > time) out++
    }
    if (!mayEject(outliers, all, out)) return
    endpoint.ejections++
    endpoint.trouble = why === '' ? reason : `${reason}, the last: ${why}`
    changed(endpoint, () => {
      endpoint.ejectedUntil = eject(endpoint.conduct, outliers, time)
      endpoint.rampFrom = 0
      restate(endpoint, time)
    })
  }

  function judgeOutcome(endpoint: Endpoint, outcome: AttemptOutcome, why: string): void {
    if (outcome === 'unreachable') changed(endpoint, () => couldNotReach(endpoint, why, now()))
    if (outcome !== 'unknown') assess(endpoint, outcome !== 'well', why)
  }

  function describeOne(endpoint: Endpoint): UpstreamState {
    const time = now()
    const group = groups.get(endpoint.service)
    const slowStart = slowStartOf(endpoint)
    settle(endpoint, slowStart, time)
    return describeEndpoint(endpoint, {
      waiting: group?.queue.length ?? 0,
      share: shareOf(endpoint, slowStart, time),
      now: time,
      unixNow: Date.now(),
      name: endpoint.name === undefined ? undefined : names.state(endpoint.name),
    })
  }

  for (const service of initial.services) update(service, true)

  return {
    pick(service, key, tried, asking) {
      const members = membersOf(service)
      const { queue } = members.group
      let found = choose(members, key, tried, asking)
      // No request overtakes those that wait, if there is something for them. A free upstream may be one that they have
      // tried, or one that came back because its time was over, which wakes no request.
      if (queue.length > 0 && typeof found !== 'string') {
        const before = queue.length
        queue.wake()
        if (queue.length !== before) found = choose(members, key, tried, asking)
      }
      if (found !== 'over_share') return found
      countOver(members.group, asking!)
      return 'busy'
    },
    pickForTunnel(service, key, tried) {
      const members = membersOf(service)
      // A request without a caller cannot exceed a share.
      return chooseTarget(members, members.group.service.slowStart, key, tried, now, undefined, true) as
        | Target
        | NoTarget
    },
    tunnelBegun({ endpoint }) {
      endpoint.tunnels++
    },
    tunnelEnded({ endpoint }, outcome, why = '') {
      endpoint.tunnels--
      judgeOutcome(endpoint, outcome, why)
    },
    wait(request) {
      const { queue } = groupOf(request.service)
      const { maxWait, maxWaiting } = request.service
      const waiting = queue.push(request, now() + maxWait, request.asking.caller, maxWaiting)
      return waiting && (() => queue.remove(waiting))
    },
    lookup: names.lookup,
    begun({ endpoint }, asking) {
      if (endpoint.stale) leave(endpoint)
      if (asking !== undefined && isScarce(endpoint)) takePlace(endpoint, asking)
      endpoint.inFlight++
      return endpoint.pool ?? open(endpoint)
    },
    answered({ endpoint }) {
      if (endpoint.unreachableUntil === 0) return
      endpoint.unreachableUntil = 0
      changed(endpoint, () => cameBack(endpoint, slowStartOf(endpoint), now()))
    },
    connecting: ({ endpoint }) => endpoint.pool?.connecting ?? true,
    unreachable({ endpoint }, why) {
      changed(endpoint, () => couldNotReach(endpoint, why, now()))
      assess(endpoint, true, why)
    },
    ended({ endpoint }, outcome, why = '') {
      endpoint.inFlight--
      judgeOutcome(endpoint, outcome, why)
      if (endpoint.retired && endpoint.inFlight === 0) leave(endpoint)
      const queue = groups.get(endpoint.service)?.queue
      if (queue !== undefined && queue.length > 0) queue.wake(1)
    },
    *health() {
      for (const { endpoints, service } of groups.values()) {
        for (const endpoint of endpoints) {
          settle(endpoint, service.slowStart, now())
          yield readingOf(endpoint)
        }
      }
    },
    othersWait: ({ name }, caller) => groups.get(name)?.queue.othersWait(caller) === true,
    *waiting() {
      for (const [name, { queue }] of groups) yield [name, queue.length]
    },
    describe: () => [...groups.values()].flatMap(({ endpoints }) => endpoints.map(describeOne)),
    setState(service, address, state) {
      const endpoints = groups.get(service)?.endpoints ?? []
      const endpoint = endpoints.find((one) => one.address === address) ?? asWritten(endpoints, address)
      if (endpoint === undefined) return undefined
      changed(endpoint, () => {
        endpoint.drained = state === 'drained'
        if (endpoint.drained) restate(endpoint, now())
        else if (endpoint.state === 'drained' || endpoint.state === 'ejected') {
          // An operator that declares it healthy also clears its failures.
          endpoint.conduct = goodConduct()
          endpoint.ejectedUntil = 0
          cameBack(endpoint, slowStartOf(endpoint), now())
        }
      })
      return describeOne(endpoint)
    },
    retain(next) {
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
    async close() {
      checks.close()
      names.close()
      for (const { queue } of groups.values()) queue.close()
      groups.clear()
      await Promise.all([...pools].map((pool) => pool.destroy()))
    },
  }
}

/**
 * Finds the upstream with this address, or, if there is just one, with this host and port. A default port may be
 * written.
 */
function asWritten(endpoints: readonly Endpoint[], text: string): Endpoint | undefined {
  const whole = text.includes('://')
  const found = endpoints.filter(({ address, upstream: { origin, host } }) => {
    const url = whole ? text : `${origin.slice(0, origin.indexOf(':'))}://${text}`
    if (!URL.canParse(url)) return false
    const { href, host: named, pathname } = new URL(url)
    return whole ? href === address || href === `${address}/` : named === host && pathname === '/'
  })
  return found.length === 1 ? found[0] : undefined
}
