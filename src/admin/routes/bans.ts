import type { FastifyInstance } from 'fastify'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { type Ban, LONGEST_REASON } from '../../fleet/bans.js'
import type { ReplicatedMap } from '../../fleet/replicated-map.js'
import { askStore } from '../../limiter/redis/store-timeout.js'
import { createBlock, formatBlock, readAddress, readBlock, setSubscriber } from '../../net/parse-cidr.js'
import { refuse } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { bodyWith, endOf, isoOf } from './read-request.js'

interface BanOf {
  readonly Params: { readonly block: string }
  readonly Body: unknown
}

/** A ban in a response. */
export type ShownBan = Readonly<ReturnType<typeof shown>> & {
  /** Only in the response to a new ban: the setting that still lets the address in. */
  readonly let_in?: 'trusted_proxies' | 'edge.allow' | undefined
}

export interface BanList {
  readonly bans: readonly ShownBan[]
  /** Number of all bans. */
  readonly total: number
}

/** Most bans in one list; the latest are listed. */
const MOST_SHOWN = 1000
/** Widest block that can be banned, by prefix length: a typing error must not ban everyone. */
const WIDEST = { 4: 8, 6: 16 } as const
const PATIENCE_MS = 3000
const MONTH = 31 * 86_400_000

const block = createBlock()

/** Adds the routes for bans. A change takes effect on every gateway within a second. */
export function banRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'audit' | 'log'>,
): void {
  const bans = () => deps.store().bans.map

  const loaded = () => askStore(PATIENCE_MS, bans().ready)

  app.get('/bans', () =>
    withStore(deps.log, 'read the bans', async () => {
      await loaded()
      const all = [...bans().entries()]
      const latest = all.sort(([, a], [, b]) => b.since - a.since).slice(0, MOST_SHOWN)
      return { bans: latest.map(([key, ban]) => shown(key, ban)), total: all.length } satisfies BanList
    }),
  )

  app.put<BanOf>('/bans/:block', FOR_SUPPORT, async (request) => {
    const key = keyOf(request.params.block)
    const ban = banIn(request.body)
    return withStore(deps.log, 'ban the address', async () => {
      const before = await bans().read(key)
      await bans().set(key, ban)
      const [was, is] = [before && shown(key, before), shown(key, ban)]
      await deps.audit.record(request, { action: 'ban.set', target: key, before: was, after: is })
      const lets = letsIn(deps.config.current(), key)
      return lets === undefined ? is : { ...is, let_in: lets }
    })
  })

  app.delete<BanOf>('/bans/:block', FOR_SUPPORT, async (request) => {
    const key = keyOf(request.params.block, false)
    return withStore(deps.log, 'lift the ban', async () => {
      await loaded()
      const lifted: ShownBan[] = []
      for (const one of [key, ...subscriberOf(key)]) {
        const before = await bans().read(one)
        // Also when the store has no such ban: a gateway that has banned the address by itself lifts that ban.
        await bans().set(one, undefined)
        if (before !== undefined) lifted.push(shown(one, before))
      }
      const before = lifted.length > 1 ? lifted : lifted[0]
      await deps.audit.record(request, { action: 'ban.remove', target: key, before })
      return { block: key, lifted, still: widerBans(bans(), key) }
    })
  })
}

/** Returns the bans that hold for an address or a block, the narrowest first. */
export function bansOf(bans: Pick<ReplicatedMap<Ban>, 'get'>, text: string): ShownBan[] {
  const key = keyOf(text, false)
  const own = bans.get(key)
  return [...(own === undefined ? [] : [shown(key, own)]), ...widerBans(bans, key)]
}

/**
 * Returns the wider bans that contain the block, narrowest first. There may be 200,000 bans, so it looks up each
 * possible prefix.
 */
function widerBans(bans: Pick<ReplicatedMap<Ban>, 'get'>, key: string): ShownBan[] {
  const wider: ShownBan[] = []
  readBlock(key, block)
  while (block.length > 0) {
    block.length--
    block.words[block.length >>> 5]! &= ~(0x8000_0000 >>> (block.length & 31))
    const other = formatBlock(block)
    const ban = bans.get(other)
    if (ban !== undefined) wider.push(shown(other, ban))
  }
  return wider
}

function shown(key: string, { source, since, until, reason }: Ban) {
  return {
    block: key,
    source,
    since: new Date(since).toISOString(),
    until: isoOf(until),
    reason: reason ?? null,
  }
}

/** Returns the setting that lets a banned address in. For a block of several addresses, checks the first one. */
function letsIn({ edge, isTrustedProxy }: Snapshot, key: string): ShownBan['let_in'] {
  const address = key.slice(0, key.indexOf('/'))
  if (isTrustedProxy(address)) return 'trusted_proxies'
  const family = readAddress(address, block.words)
  const allowed =
    family !== 0 && edge.allowed !== undefined && edge.allowed.match(family, block.words, 0) !== 0
  return allowed ? 'edge.allow' : undefined
}

/**
 * Parses a block into its canonical form. Ends the request if it is malformed.
 *
 * @param narrow true if a very wide block is refused
 */
function keyOf(text: string, narrow = true): string {
  const fault = readBlock(text, block)
  if (fault === 'malformed') {
    refuse(
      'bad_request',
      'This is not an address block; write one such as 203.0.113.0/24, 192.0.2.7 or 2001:db8::/48.',
    )
  }
  const key = formatBlock(block)
  if (fault === 'inexact') refuse('bad_request', `The address has bits set after its prefix; write ${key}.`)
  const least = WIDEST[block.family === 6 ? 6 : 4]
  if (narrow && block.length < least) {
    refuse(
      'unprocessable',
      `${key} is wider than /${least} and would ban too many addresses; use edge.deny in the configuration.`,
    )
  }
  return key
}

/** Returns the /64 network by which a single IPv6 address is banned; an empty list for other blocks. */
function subscriberOf(key: string): string[] {
  if (!key.endsWith('/128')) return []
  readAddress(key.slice(0, -4), block.words)
  setSubscriber(block, 6, block.words)
  return [formatBlock(block)]
}

/** Reads the ban from a body, which may be left out. */
function banIn(body: unknown): Ban {
  const { for: period, reason = '' } =
    body === undefined ? {} : (bodyWith(body, ['for', 'reason']) ?? refuseBody())
  if (typeof reason !== 'string') return refuseBody()
  if (reason.length > LONGEST_REASON)
    refuse('bad_request', `The reason of a ban has at most ${LONGEST_REASON} characters.`)
  const since = Date.now()
  const until = endOf(period, MONTH, since)
  return {
    source: 'manual',
    since,
    ...(until !== undefined && { until }),
    ...(reason !== '' && { reason }),
  }
}

function refuseBody(): never {
  return refuse('bad_request', 'Send {"for":"1h","reason":"…"} as JSON. Both members are optional.')
}
