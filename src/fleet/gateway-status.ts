import { compareText } from '../common/by-text.js'
import { fieldsOf, isCount, isTime, parseJson } from '../common/json.js'
import { groupBy } from '../common/maps.js'
import { NAME_PATTERN } from '../config/values/scalar-types.js'

/** Status of the processes of a gateway, as each writes it into the store, and of the gateway that they make up. */

/** Status of one process that serves requests, in its own words. */
export interface ProcessStatus {
  /** Id of the gateway that the process belongs to: its name, `~` and a random part. Its workers share it. */
  readonly gateway: string
  /** Number of the worker from 1; null: the process is the whole gateway. */
  readonly worker: number | null
  readonly group: string | null
  /** Version of the program. */
  readonly version: string
  /** When the process started, in unix ms. */
  readonly started: number
  /** Configurations that the process has taken, the latest first: that one is in force. */
  readonly receipts: readonly Receipt[]
  /** Why the latest configuration was rejected; null if it was not. */
  readonly rejected: Rejected | null
  readonly draining: boolean
  /** True while decisions are made without the store. */
  readonly degraded: boolean
  /** Faults that do not stop the process from serving, for an operator. */
  readonly faults: readonly string[]
  /** Age of the oldest copy of shared records, in ms; 0 up to FRESH_MS. */
  readonly lagMs: number
  /** Names of the records whose copy is older. */
  readonly behind: readonly string[]
  /** Finished requests a second, lately. */
  readonly rate: number
}

export interface Receipt {
  readonly hash: string
  /** Unix ms at which the gateway loaded it. */
  readonly at: number
}

export interface Rejected {
  /** Unix ms. */
  readonly at: number
  readonly message: string
}

/** A gateway with all its workers. */
export interface GatewayStatus {
  readonly id: string
  readonly name: string
  readonly group: string | null
  /** Number of workers; null: the gateway is one process. */
  readonly workers: number | null
  /** Versions of its processes: one, except while an upgrade replaces workers. */
  readonly versions: readonly string[]
  /** When its longest running process started, in unix ms. */
  readonly started: number
  readonly state: 'serving' | 'degraded' | 'draining'
  /** Hash of the configuration that most of its processes have. */
  readonly hash: string
  /** Unix ms at which it loaded that configuration. */
  readonly since: number
  /** Hashes of the other processes. */
  readonly otherHashes: readonly string[]
  /** Configurations that it has taken, the latest first. */
  readonly receipts: readonly Receipt[]
  readonly rejected: Rejected | null
  readonly faults: readonly string[]
  readonly lagMs: number
  readonly behind: readonly string[]
  readonly rate: number
}

/** Greatest age of a copy that counts as none, in ms: heartbeats confirm it about once a second. */
export const FRESH_MS = 2000
/** Longest status that is read, in UTF-16 units. */
export const STATUS_LENGTH = 8192
export const MOST_RECEIPTS = 5
const MOST_TEXTS = 16
const LONGEST_TEXT = 300
const LONGEST_ID = 300

const HASH = /^[0-9a-f]{12}$/
const VERSION = /^[\w.+-]{1,40}$/
const GROUP = new RegExp(NAME_PATTERN)
/** Controls, lone surrogates, and what changes the direction of text or breaks its line. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u
const ALL_UNSEEN = new RegExp(UNSEEN, 'gu')

/** Returns the name in the id of a gateway. */
export function nameOf(id: string): string {
  return id.slice(0, id.lastIndexOf('~') >>> 0)
}

/** Cuts a text to what `readStatus` accepts, and replaces characters that cannot be seen. */
export function shownText(text: string): string {
  const clean = text.slice(0, LONGEST_TEXT).replace(ALL_UNSEEN, '\ufffd')
  return text.length > LONGEST_TEXT ? `${clean.slice(0, -1)}…` : clean
}

/**
 * Reads a status. Returns undefined for anything that is not one: any client with access to the store may write. Every
 * text in the result is bounded and can be shown.
 */
export function readStatus(text: string): ProcessStatus | undefined {
  if (text.length > STATUS_LENGTH) return undefined
  const data = fieldsOf(parseJson(text))
  const { gateway, worker, group, version, started, receipts, rejected, draining, degraded } = data
  const { faults, lagMs, behind, rate } = data
  const isGroup = group === null || (typeof group === 'string' && GROUP.test(group))
  const isWorker = worker === null || (isCount(worker) && worker > 0)
  if (!isId(gateway) || !isGroup || !isWorker || typeof version !== 'string' || !VERSION.test(version))
    return undefined
  if (!isTime(started) || !isCount(lagMs) || !isAmount(rate)) return undefined
  if (typeof draining !== 'boolean' || typeof degraded !== 'boolean') return undefined
  if (!areTexts(faults) || !areTexts(behind)) return undefined
  if (!Array.isArray(receipts) || receipts.length === 0 || receipts.length > MOST_RECEIPTS) return undefined
  if (!receipts.every(isReceipt) || !(rejected === null || isRejected(rejected))) return undefined
  return {
    ...{ gateway, worker, group, version, started, draining, degraded, faults, lagMs, behind, rate },
    receipts: receipts.map(({ hash, at }) => ({ hash, at })),
    rejected: rejected === null ? null : { at: rejected.at, message: rejected.message },
  }
}

/** Returns true for the id of a gateway whose name can be shown. */
export function isId(value: unknown): value is string {
  return isText(value, LONGEST_ID) && nameOf(value) !== ''
}

function isText(value: unknown, most: number): value is string {
  return typeof value === 'string' && value.length <= most && !UNSEEN.test(value)
}

function areTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.length <= MOST_TEXTS && value.every((one) => isText(one, LONGEST_TEXT))
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

function isReceipt(value: unknown): value is Receipt {
  const { hash, at } = fieldsOf(value)
  return typeof hash === 'string' && HASH.test(hash) && isTime(at)
}

function isRejected(value: unknown): value is Rejected {
  const { at, message } = fieldsOf(value)
  return isTime(at) && isText(message, LONGEST_TEXT)
}

/** Merges the processes of each gateway. The result is in the order of groups, then names. */
export function gatewaysOf(processes: readonly ProcessStatus[]): GatewayStatus[] {
  const byGateway = groupBy(processes, ({ gateway }) => gateway)
  return [...byGateway.values()]
    .map(mergeProcesses)
    .sort(
      (a, b) =>
        compareText(a.group ?? '', b.group ?? '') || compareText(a.name, b.name) || compareText(a.id, b.id),
    )
}

function mergeProcesses(all: readonly ProcessStatus[]): GatewayStatus {
  // Workers that leave after a restart do not count beside those that stay.
  const staying = all.filter(({ draining }) => !draining)
  const processes = staying.length === 0 ? all : staying
  const first = processes[0]!
  const latest = processes.map(({ receipts }) => receipts[0]!)
  const hash = most(
    latest.map(({ hash }) => hash),
    (one) => lastOf(latest, one),
  )
  return {
    id: first.gateway,
    name: nameOf(first.gateway),
    group: first.group,
    workers: first.worker === null ? null : processes.length,
    versions: unique(processes.map(({ version }) => version)),
    started: Math.min(...processes.map(({ started }) => started)),
    state:
      staying.length === 0 ? 'draining' : processes.some(({ degraded }) => degraded) ? 'degraded' : 'serving',
    hash,
    since: lastOf(latest, hash),
    otherHashes: unique(latest.map(({ hash }) => hash)).filter((one) => one !== hash),
    receipts: mergeReceipts(processes),
    rejected: processes.reduce<Rejected | null>(
      (last, { rejected }) => (rejected !== null && rejected.at >= (last?.at ?? 0) ? rejected : last),
      null,
    ),
    faults: unique(processes.flatMap(({ faults }) => faults)),
    lagMs: Math.max(...processes.map(({ lagMs }) => lagMs)),
    behind: unique(processes.flatMap(({ behind }) => behind)),
    rate: processes.reduce((sum, { rate }) => sum + rate, 0),
  }
}

/** Returns the latest receipts of all processes, the newest first. */
function mergeReceipts(processes: readonly ProcessStatus[]): Receipt[] {
  const byHash = new Map<string, number>()
  for (const { hash, at } of processes.flatMap(({ receipts }) => receipts)) {
    byHash.set(hash, Math.max(at, byHash.get(hash) ?? 0))
  }
  return [...byHash]
    .map(([hash, at]) => ({ hash, at }))
    .sort((a, b) => b.at - a.at)
    .slice(0, MOST_RECEIPTS)
}

function lastOf(receipts: readonly Receipt[], hash: string): number {
  return Math.max(...receipts.filter((one) => one.hash === hash).map(({ at }) => at))
}

/** Returns true if all processes of a gateway have a configuration. */
export function hasHash({ hash, otherHashes }: GatewayStatus, wanted: string): boolean {
  return hash === wanted && otherHashes.length === 0
}

/** A property in which a gateway should be like most of its group, or `name`, which should be its own. */
export type Difference = 'configuration' | 'version' | 'name'

/** Returns the differences of each gateway, by its id. Gateways without any are left out. */
export function differencesOf(
  gateways: readonly GatewayStatus[],
): ReadonlyMap<string, readonly Difference[]> {
  const found = new Map<string, Difference[]>()
  const note = ({ id }: GatewayStatus, what: Difference) => {
    found.set(id, [...(found.get(id) ?? []), what])
  }
  for (const group of groupBy(gateways, ({ group }) => group).values()) {
    const newest = (of: (one: GatewayStatus) => boolean, at: 'since' | 'started') =>
      Math.max(...group.filter(of).map((one) => one[at]))
    const hash = most(
      group.map(({ hash }) => hash),
      (hash) => newest((one) => one.hash === hash, 'since'),
    )
    const versions = group.map(({ versions }) => versions.join())
    const version = most(versions, (version) => newest((one) => one.versions.join() === version, 'started'))
    for (const one of group) {
      if (!hasHash(one, hash)) note(one, 'configuration')
      if (one.versions.join() !== version || one.versions.length > 1) note(one, 'version')
    }
  }
  for (const named of groupBy(gateways, ({ name }) => name).values()) {
    if (named.length > 1) for (const one of named) note(one, 'name')
  }
  return found
}

/** Returns the value that occurs most often. Among equals, the one with the greatest `rank`. */
function most<T>(values: readonly T[], rank: (value: T) => number): T {
  const counts = groupBy(values, (value) => value)
  const [best] = [...counts.keys()].sort(
    (a, b) => counts.get(b)!.length - counts.get(a)!.length || rank(b) - rank(a),
  )
  return best!
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)].sort(compareText)
}
