import { performance } from 'node:perf_hooks'
import type { AddressSet, CriteriaInput, EdgeRules, IpLimit } from '../../config/snapshot/edge.js'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { prepareRefusal, type Refusal } from '../../errors.js'
import type { BanHit, Bans } from '../../fleet/bans.js'
import { createBlock, type Family, formatBlock, readAddress } from '../../net/parse-cidr.js'
import { canonicalPath, otherReadings } from '../../net/path.js'
import type { EdgeReason } from '../../telemetry/metrics/recorder.js'
import { type AddressBuckets, createAddressBuckets } from '../edge/address-buckets.js'
import { clientOf } from '../exchange/address.js'
import type { Exchange } from '../exchange/exchange.js'
import { fieldOf } from '../exchange/header-list.js'

export interface EdgeDeps {
  readonly metrics: { edgeDenied(reason: EdgeReason): void }
  /** Left out: nobody is banned. */
  readonly bans?: Pick<Bans, 'size' | 'match'> | undefined
  /** Set to predict what would become of a request that is not sent: then no address limit applies. */
  readonly looksOnly?: boolean
  /** Monotonic clock, in ms. */
  readonly clock?: (() => number) | undefined
}

/**
 * Creates the first stage, which decides whether the caller is let in at all. It reads memory only, the cheapest check
 * first, and does not allocate for a caller that is let in.
 */
export function checkEdge({
  metrics,
  bans = NO_BANS,
  looksOnly = false,
  clock = () => performance.now(),
}: EdgeDeps) {
  const words = new Uint32Array(4)
  /** Created when there is a limit for the first time. A reload keeps it, unless the configured size changes. */
  let buckets: AddressBuckets | undefined
  let remembered = 0

  function limit(x: Exchange, family: Family, ipLimit: IpLimit): Refusal | undefined {
    if (buckets === undefined || remembered !== ipLimit.addresses) {
      remembered = ipLimit.addresses
      buckets = createAddressBuckets(remembered)
    }
    const wait = buckets.take(family, words, ipLimit, clock())
    if (wait === 0 || x.snapshot.isTrustedProxy(x.clientIp)) return undefined
    metrics.edgeDenied('ip_limit')
    return limited(Math.max(1, Math.ceil(wait / 1000)))
  }

  return function checkEdge(x: Exchange): Refusal | undefined {
    const { edge } = x.snapshot
    x.clientIp = clientOf(x)
    if (!edge.active && bans.size === 0) return undefined
    const family = readAddress(x.clientIp, words)
    if (family !== 0) {
      if (edge.allowed !== undefined && edge.allowed.match(family, words, 0) !== 0) return undefined
      if (bans.size > 0) {
        const found = bans.match(family, words)
        if (found !== undefined && !x.snapshot.isTrustedProxy(x.clientIp)) {
          return deny(x, metrics, reasonOf(found), banText(found))
        }
      }
      const hit = edge.denied?.match(family, words, 0) ?? 0
      if (hit !== 0 && !isAllowed(x, edge)) {
        return deny(x, metrics, 'deny_list', `edge.deny: ${blockOf(edge.denied!, hit)}`)
      }
    }
    if (edge.deny !== undefined) {
      const criterion = edge.deny.match(askedOf(x), () => readingsOf(x.target))
      if (criterion !== undefined && !isAllowed(x, edge)) {
        return deny(x, metrics, criterion, `edge.deny: ${criterion}`)
      }
    }
    if (edge.ipLimit === undefined || family === 0 || looksOnly) return undefined
    return limit(x, family, edge.ipLimit)
  }
}

function deny(x: Exchange, metrics: EdgeDeps['metrics'], reason: EdgeReason, cause: string): Refusal {
  metrics.edgeDenied(reason)
  // A proxy's connection carries other clients, too.
  const silent = x.snapshot.edge.silent && !x.snapshot.isTrustedProxy(x.peer)
  return silent ? { code: 'forbidden', cause, silent } : { code: 'forbidden', cause, prepared: FORBIDDEN }
}

/** Refuses a request whose address was banned while the request was being checked. */
export function denyBanned(
  x: Exchange,
  bans: Pick<Bans, 'size' | 'match'>,
  metrics: EdgeDeps['metrics'],
): Refusal | undefined {
  if (bans.size === 0) return undefined
  const found = banOn(x.clientIp, x.snapshot, bans)
  return found && deny(x, metrics, reasonOf(found), banText(found))
}

/**
 * Returns the ban that holds the address of an already accepted client now, as text for the log.
 *
 * @param clientIp as determined by the first stage
 */
export function bannedBy(
  clientIp: string,
  snapshot: Snapshot,
  bans: Pick<Bans, 'match'>,
): string | undefined {
  const found = banOn(clientIp, snapshot, bans)
  return found && banText(found)
}

function banOn(
  clientIp: string,
  { edge, isTrustedProxy }: Snapshot,
  bans: Pick<Bans, 'match'>,
): BanHit | undefined {
  const words = new Uint32Array(4)
  const family = readAddress(clientIp, words)
  if (family === 0 || isTrustedProxy(clientIp)) return undefined
  if (edge.allowed !== undefined && edge.allowed.match(family, words, 0) !== 0) return undefined
  return bans.match(family, words)
}

function reasonOf({ ban }: BanHit): EdgeReason {
  return ban.source === 'auto' ? 'auto_ban' : 'ban'
}

const NO_BANS = { size: 0, match: () => undefined }

/** Describes a ban, for the log and for `why`. */
function banText({ block, ban: { source, until, reason } }: BanHit): string {
  const end = until === undefined ? '' : ` until ${new Date(until).toISOString().slice(0, 19)}Z`
  return `${source === 'auto' ? 'auto_ban' : 'ban'} ${block}${end}${reason === undefined ? '' : `: ${reason}`}`
}

/** Returns whether `edge.allow` lets the request in by something else than the address. Bans and limits do not know of that. */
function isAllowed(x: Exchange, { allow }: EdgeRules): boolean {
  return allow !== undefined && allow.match(askedOf(x), () => asList(pathOf(x.target))) !== undefined
}

function askedOf({ snapshot, headers }: Exchange): CriteriaInput {
  const { country, botScore } = snapshot.edge.cdn
  const score = botScore === undefined ? undefined : fieldOf(headers.cdn, botScore)
  return {
    country: country === undefined ? undefined : fieldOf(headers.cdn, country)?.trim().toUpperCase(),
    userAgent: headers.userAgent,
    botScore: score !== undefined && SCORE.test(score.trim()) ? Number(score) : undefined,
  }
}

const SCORE = /^[0-9]{1,3}$/
const ORIGIN = /^https?:\/\/[^/?#]*/i

/**
 * Returns the path in lower case, in the form by which routes are looked up; undefined if no route is looked up for the
 * target.
 */
export function pathOf(target: string): string | undefined {
  const path = target.charCodeAt(0) === 0x2f ? target : target.replace(ORIGIN, '')
  const query = path.indexOf('?')
  const bare = query < 0 ? path : path.slice(0, query)
  return canonicalPath(bare === '' ? '/' : bare)?.key.toLowerCase()
}

/** Returns that path, and the other paths that a backend might read it as. */
function readingsOf(target: string): readonly string[] {
  const path = pathOf(target)
  return path === undefined ? NONE : [path, ...otherReadings(path).map((reading) => reading.toLowerCase())]
}

function asList(path: string | undefined): readonly string[] {
  return path === undefined ? NONE : [path]
}

const NONE: readonly string[] = []

const block = createBlock()

function blockOf(set: AddressSet, hit: number): string {
  set.read(hit, block)
  return formatBlock(block)
}

const FORBIDDEN = prepareRefusal({ code: 'forbidden' })

/** Refusals by seconds: a client over the limit asks again and again. */
const refusals = new Map<number, Refusal>()
const MOST_REFUSALS = 1000

function limited(seconds: number): Refusal {
  const known = refusals.get(seconds)
  if (known !== undefined) return known
  const plain: Refusal = {
    code: 'address_limited',
    detail: `This address sends too many requests; try again in ${seconds} s.`,
    headers: ['Retry-After', String(seconds)],
  }
  const refusal = { ...plain, prepared: prepareRefusal(plain) }
  if (refusals.size < MOST_REFUSALS) refusals.set(seconds, refusal)
  return refusal
}
