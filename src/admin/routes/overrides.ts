import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Limit } from '../../config/snapshot/limit.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import {
  type Amount,
  type AmountKey,
  type AmountKind,
  amountKeyText,
  changedPolicy,
  LONGEST_REASON,
  readAmountKey,
} from '../../fleet/overrides.js'
import { type MapFound, searchMap } from '../../fleet/search-map.js'
import { MOST_AMOUNT } from '../../limiter/apply-overrides.js'
import { refuse } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { bodyWith, checkId, endOf, isoOf, listed, namesOf, serviceNamed } from './read-request.js'

interface AmountOf {
  readonly Params: {
    readonly service: string
    readonly limit: string
    readonly of: string
    readonly id: string
  }
  readonly Querystring: Readonly<Record<string, unknown>>
  readonly Body: unknown
}

/** Name of the number in a body and in a response. */
const NUMBER = { boost: 'by', override: 'amount' } as const
/** Most amounts in one list of those in memory. A list of those that are read from the store may have some more. */
const MOST_TOLD = 1000
/** Amounts of a list that are shown at the same time: their limits may have to be looked up. */
const SHOWN_AT_ONCE = 100
/** How long a request may read amounts from the store, in ms. */
const SEARCH_MS = 1000

/** Creates what reads boosts and overrides, for operators. */
export function createAmountList(deps: Pick<AdminDeps, 'config' | 'store' | 'log'>) {
  const map = () => deps.store().amounts.map

  /** Returns the resulting amounts by tier. */
  async function amountsOf({ service, limit, of, id }: AmountKey): Promise<Record<string, number>> {
    const { services, tiers } = deps.config.current()
    const found = services.find(({ name }) => name === service)
    const [consumer, tenant] = of === 'consumer' ? [id, undefined] : ['', id]
    const amounts: Record<string, number> = {}
    for (const [tier, policy] of found?.policies.entries() ?? []) {
      if (policy === undefined) continue
      const { limits } = await changedPolicy(deps.store().amounts, found!, policy, consumer, tenant)
      const one = limits.find(({ name }) => name === limit)
      if (one !== undefined) amounts[tiers[tier]!] = one.amount
    }
    return amounts
  }

  async function shown(key: AmountKey, { amount, until, reason }: Amount): Promise<object> {
    const { kind, of, id, service, limit } = key
    const common = {
      [of]: id,
      service,
      limit,
      [NUMBER[kind]]: amount,
      until: isoOf(until),
      reason: reason ?? null,
    }
    return { ...common, amounts: await amountsOf(key) }
  }

  /** Looks up the amounts of a consumer or a tenant. Not all are in memory: those that it may have by the configuration. */
  async function amountsFor(
    holder: Pick<AmountKey, 'kind' | 'of' | 'id'>,
  ): Promise<MapFound<Amount>['found']> {
    const keys =
      deps.store().amounts.keysOf(holder.of, holder.id) ??
      deps.config
        .current()
        .services.flatMap((service) =>
          namesOf(limitsOf(service)).map((limit) =>
            amountKeyText({ ...holder, service: service.name, limit }),
          ),
        )
    const values = await Promise.all(keys.map(map().find))
    return keys.flatMap((key, i) => (values[i] === undefined ? [] : [[key, values[i]] as const]))
  }

  /** Lists amounts; the ones that end first come first. */
  async function list(kind: AmountKind, query: AmountOf['Querystring']) {
    const { consumer, tenant, service, after } = query as Readonly<Record<string, string | undefined>>
    const fits = (text: string): boolean => {
      const key = readAmountKey(text)
      if (key?.kind !== kind || (service !== undefined && key.service !== service)) return false
      if (consumer !== undefined && (key.of !== 'consumer' || key.id !== consumer)) return false
      return tenant === undefined || (key.of === 'tenant' && key.id === tenant)
    }
    const { found, next } = await withStore(
      deps.log,
      `list the ${kind}s`,
      async (): Promise<MapFound<Amount>> => {
        const id = consumer ?? tenant
        if (id !== undefined) {
          const some = await amountsFor({ kind, of: consumer === undefined ? 'tenant' : 'consumer', id })
          return { found: some.filter(([key]) => fits(key)), next: undefined }
        }
        if (map().isWhole())
          return { found: [...map().entries()].filter(([key]) => fits(key)), next: undefined }
        return searchMap(map(), { cursor: after, fits, most: MOST_TOLD, forMs: SEARCH_MS })
      },
    )
    const end = ([, { until }]: readonly [string, Amount]) => until ?? Number.MAX_SAFE_INTEGER
    found.sort((a, b) => end(a) - end(b))
    const told = next === undefined ? found.slice(0, MOST_TOLD) : found
    const all: object[] = []
    for (let i = 0; i < told.length; i += SHOWN_AT_ONCE) {
      const some = told.slice(i, i + SHOWN_AT_ONCE)
      all.push(...(await Promise.all(some.map(([text, value]) => shown(readAmountKey(text)!, value)))))
    }
    return { amounts: all, not_shown: found.length - told.length, ...(next !== undefined && { next }) }
  }

  return { amountsOf, shown, list }
}

/**
 * Adds the routes for boosts and overrides of single limits, for a consumer or a tenant. A change takes effect on every
 * gateway within a second.
 */
export function amountRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'audit' | 'log'>,
): void {
  const { amountsOf, shown, list } = createAmountList(deps)
  const map = () => deps.store().amounts.map

  async function put(kind: AmountKind, request: FastifyRequest<AmountOf>) {
    const { service, limit } = request.params
    const found = serviceNamed(deps.config.current(), service)
    checkLimit(found, limit)
    const key = keyOf(kind, request.params)
    const word = NUMBER[kind]
    const body: Record<string, unknown> | undefined = bodyWith(request.body, [word, 'for'])
    const amount = body?.[word]
    if (typeof amount !== 'number' || (kind === 'boost' && body?.for === undefined)) {
      const example =
        kind === 'boost'
          ? '{"by":500,"for":"1h"} as JSON.'
          : '{"amount":5000} as JSON, with "for":"30d" if it is to end by itself.'
      return refuse('bad_request', `Send ${example}`)
    }
    const until = endOf(body?.for)
    checkAmount(kind, found, limit, amount)
    const value = { amount, until, reason: request.actor.reason?.slice(0, LONGEST_REASON) }
    await withStore(deps.log, `set the ${kind}`, async () => {
      const text = amountKeyText(key)
      const before = numberOf(kind, await map().read(text))
      await map().set(text, value)
      const after = numberOf(kind, value)
      await deps.audit.record(request, { action: `${kind}.set`, target: targetOf(key), before, after })
    })
    return shown(key, value)
  }

  async function remove(kind: AmountKind, request: FastifyRequest<AmountOf>) {
    // It must also be possible to delete an amount for a limit that is no longer configured.
    const key = keyOf(kind, request.params)
    const { service, limit, of, id } = key
    const text = amountKeyText(key)
    // A colon in the name of a service would make this the boost of another consumer, and the audit log would not tell
    // which.
    const isOwn = isDeepStrictEqual(readAmountKey(text), key)
    await withStore(deps.log, `remove the ${kind}`, async () => {
      const before = isOwn ? await map().read(text) : undefined
      if (before === undefined) {
        return refuse(
          'not_found',
          `There is no ${kind} of ${limit} on ${service} for ${of} ${JSON.stringify(id)}; list the ${kind}s to see which there are.`,
        )
      }
      await map().set(text, undefined)
      const change = { action: `${kind}.remove`, target: targetOf(key) } as const
      await deps.audit.record(request, { ...change, before: numberOf(kind, before) })
    })
    return { [of]: id, service, limit, removed: true, amounts: await amountsOf(key) }
  }

  async function told(kind: AmountKind, query: AmountOf['Querystring']): Promise<object> {
    const { amounts, ...rest } = await list(kind, query)
    return { [`${kind}s`]: amounts, ...rest }
  }

  app.get<AmountOf>('/boosts', (request) => told('boost', request.query))
  app.put<AmountOf>('/boosts/:service/:limit/:of/:id', FOR_SUPPORT, (request) => put('boost', request))
  app.delete<AmountOf>('/boosts/:service/:limit/:of/:id', FOR_SUPPORT, (request) => remove('boost', request))
  app.get<AmountOf>('/overrides', (request) => told('override', request.query))
  app.put<AmountOf>('/overrides/:service/:limit/:of/:id', (request) => put('override', request))
  app.delete<AmountOf>('/overrides/:service/:limit/:of/:id', (request) => remove('override', request))
}

/** Reads the consumer or tenant from a path. */
function keyOf(kind: AmountKind, { service, limit, of, id }: AmountOf['Params']): AmountKey {
  if (of !== 'consumer' && of !== 'tenant')
    return refuse('not_found', `A ${kind} is for a consumer or a tenant, not for ${JSON.stringify(of)}.`)
  checkId(id)
  return { kind, service, limit, of, id }
}

/** Checks the name of a limit. */
export function checkLimit(service: Service, limit: string): void {
  const names = namesOf(limitsOf(service))
  if (names.includes(limit)) return
  const has = names.length === 0 ? 'it has none' : `its limits are ${listed(names)}`
  refuse('not_found', `No limit ${JSON.stringify(limit)} on ${service.name}; ${has}.`)
}

/** Returns the limits of all tiers. */
function limitsOf({ policies }: Service): readonly Limit[] {
  return policies.flatMap((policy) => policy?.limits ?? [])
}

/** Checks a number against what the limits with that name can count. */
export function checkAmount(
  kind: AmountKind,
  service: Service,
  limit: string,
  amount: number | string,
): void {
  const most = Math.min(
    ...limitsOf(service)
      .filter(({ name }) => name === limit)
      .map(({ windowMs, calendar, amount, burst }) => {
        const exact = calendar === undefined ? Math.floor((2 ** 53 - 1) / windowMs) : MOST_AMOUNT
        return Math.min(exact, MOST_AMOUNT) - (kind === 'boost' ? Math.max(amount, burst) : burst - amount)
      }),
  )
  if (Number.isInteger(amount) && (amount as number) >= 1 && (amount as number) <= most) return
  refuse(
    'unprocessable',
    `"${NUMBER[kind]}" is ${JSON.stringify(amount)}; it must be a whole number from 1 to ${most}, the most that ${limit} of ${service.name} can count.`,
  )
}

export const targetOf = ({ service, limit, of, id }: AmountKey) => `${service}/${limit}/${of}/${id}`

/** Returns the number for the audit log. */
export function numberOf(kind: AmountKind, value: Amount | undefined): unknown {
  if (value === undefined) return undefined
  const until = isoOf(value.until)
  return { [NUMBER[kind]]: value.amount, ...(until === null ? {} : { until }) }
}
