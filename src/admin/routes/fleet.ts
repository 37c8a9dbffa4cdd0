import type { FastifyInstance } from 'fastify'
import { reuse } from '../../common/reuse.js'
import {
  type Difference,
  differencesOf,
  type GatewayStatus,
  gatewaysOf,
  isId,
  nameOf,
  type ProcessStatus,
  readStatus,
} from '../../fleet/gateway-status.js'
import type { OwnStatus } from '../../fleet/own-status.js'
import type { Ask, Question } from '../../fleet/question.js'
import { LIBRARY_STATUS, type Member } from '../../limiter/redis/heartbeat.js'
import type { AdminDeps, AdminStore } from '../deps.js'

/** Response of `GET /fleet`. */
export interface FleetAnswer {
  /** ISO 8601. */
  readonly at: string
  /** Name of the gateway that answers; null: a command that asks the store. */
  readonly node: string | null
  readonly gateways: readonly FleetGateway[]
  /** Number of gateways that are left out, because there are too many. */
  readonly left_out: number
  /** Live gateways without a status: they are of an older version, or are starting. A worker is a process of its own. */
  readonly unknown: { readonly processes: number; readonly names: readonly string[] }
  /** Number of processes that use the limiter library. */
  readonly libraries: number
  /** Reason why only this gateway is shown; null: all are, or there is no store to ask. */
  readonly problem: string | null
}

/** A gateway with its workers. Times are in ISO 8601. */
export interface FleetGateway {
  readonly name: string
  readonly group: string | null
  /** Its version; several while an upgrade replaces its workers. */
  readonly versions: readonly string[]
  /** Number of its workers; null: it is one process. */
  readonly workers: number | null
  readonly state: GatewayStatus['state']
  readonly started: string
  readonly config: {
    /** Hash of the configuration in force. */
    readonly hash: string
    readonly since: string
    /** Hashes of workers that have another one. */
    readonly others: readonly string[]
    /** Why the latest file was rejected; null if it was not. */
    readonly rejected: { readonly at: string; readonly message: string } | null
    /** The last few configurations, the latest first, and when the gateway took each. */
    readonly receipts: readonly { readonly hash: string; readonly at: string }[]
  }
  /** Properties in which it differs from most of its group; `name`: another gateway has the same. */
  readonly differs: readonly Difference[]
  readonly faults: readonly string[]
  /** Age of its oldest copy of shared records, in ms; 0 up to two seconds. */
  readonly lag_ms: number
  /** Records of which it may not have the latest changes. */
  readonly behind: readonly string[]
  readonly requests_per_second: number
}

/** Asks the processes of this gateway for their status. */
export const STATUS: Question<{ readonly status: Pick<OwnStatus, 'read'> }, null, readonly ProcessStatus[]> =
  {
    name: 'status',
    answer: ({ status }) => [status.read()],
    merge: (answers) => answers.flat(),
  }

/** Ms for which an answer is reused: any number of people may look. */
const GOOD_FOR = 250
const MOST_GATEWAYS = 1000
const MOST_NAMES = 100
const UNREAD = 'the gateways could not be read from the store'

/** Adds the route that shows all gateways on the store. */
export function fleetRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'store' | 'ask'>): void {
  const read = reuse(GOOD_FOR, () => readFleet(deps.store(), deps.ask))
  app.get('/fleet', () => read(null))
}

async function readFleet({ fleet, heartbeat }: AdminStore, ask: Ask): Promise<FleetAnswer> {
  const asked = ask(STATUS, null)
  let problem: string | null = null
  const [members, ids] = await Promise.all([heartbeat?.members() ?? [], fleet.members()]).catch(() => {
    problem = UNREAD
    return [[], []] as const
  })
  const own = (await asked) ?? []
  const { processes, unknown, libraries } = readMembers(members)
  const isOwn = new Set(own.map(({ gateway }) => gateway))
  const gateways = gatewaysOf([...own, ...processes.filter(({ gateway }) => !isOwn.has(gateway))])
  const differences = differencesOf(gateways)
  const isKnown = new Set(gateways.map(({ id }) => id))
  return {
    at: new Date().toISOString(),
    node: own.length === 0 ? null : fleet.node,
    gateways: gateways.slice(0, MOST_GATEWAYS).map((one) => shown(one, differences.get(one.id) ?? [])),
    left_out: Math.max(0, gateways.length - MOST_GATEWAYS),
    unknown: {
      processes: unknown,
      // A gateway that has ended abruptly stays on that list for some seconds.
      names: unknown === 0 ? [] : namesOf(ids.filter((id) => !isKnown.has(id))),
    },
    libraries,
    problem,
  }
}

function readMembers(members: readonly Member[]) {
  const processes: ProcessStatus[] = []
  let unknown = 0
  let libraries = 0
  for (const { status } of members) {
    if (status === LIBRARY_STATUS) libraries++
    else {
      const read = status === undefined ? undefined : readStatus(status)
      if (read === undefined) unknown++
      else processes.push(read)
    }
  }
  return { processes, unknown, libraries }
}

/** Returns the names of gateways that can be shown: any client with access to the store may write ids. */
function namesOf(ids: readonly string[]): string[] {
  return ids.filter(isId).slice(0, MOST_NAMES).map(nameOf).sort()
}

function shown(one: GatewayStatus, differs: readonly Difference[]): FleetGateway {
  const { name, group, versions, workers, state, faults, behind, hash, otherHashes, rejected } = one
  return {
    ...{ name, group, versions, workers, state },
    started: iso(one.started),
    config: {
      hash,
      since: iso(one.since),
      others: otherHashes,
      rejected: rejected && { ...rejected, at: iso(rejected.at) },
      receipts: one.receipts.map(({ hash, at }) => ({ hash, at: iso(at) })),
    },
    differs,
    faults,
    lag_ms: one.lagMs,
    behind,
    requests_per_second: one.rate,
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
