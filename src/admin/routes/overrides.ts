import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Limit } from '../../config/snapshot/limit.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import {
  type Amount,
  type AmountKey,
  type AmountKind,
  amountKeyText,
  LONGEST_REASON,
  readAmountKey,
} from '../../fleet/overrides.js'
import { MOST_AMOUNT } from '../../limiter/apply-overrides.js'
import { type Problem, sendProblem } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { storeDown } from '../store-down.js'
import { consumerProblem } from './consumer-id.js'
import { bodyWith, periodOf } from './expiry.js'
import { isoOf, listed } from './tier-of.js'

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
/** Most amounts in one list; filter by consumer, tenant or service for more. */
const MOST_TOLD = 1000

/**
 * Adds the routes for boosts and overrides of single limits, for a consumer or a tenant. A change takes effect on every
 * gateway within a second.
 */
export function amountRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'audit' | 'log'>,
): void {
  const map = () => deps.store().amounts.map

  /** Reads the service, limit and consumer or tenant from the path; returns the problem if something is wrong. */
  function keyOf(kind: AmountKind, { service, limit, of, id }: AmountOf['Params']): AmountKey | Problem {
    const { services } = deps.config.current()
    const found = services.find(({ name }) => name === service)
    if (found === undefined) {
      const names = listed(services.map(({ name }) => name))
      return {
        code: 'not_found',
        detail: `No service ${JSON.stringify(service)}; the services are ${names}.`,
      }
    }
    const names = [...new Set(limitsOf(found).map(({ name }) => name))]
    if (!names.includes(limit)) {
      const has = names.length === 0 ? 'it has none' : `its limits are ${listed(names)}`
      return { code: 'not_found', detail: `No limit ${JSON.stringify(limit)} on ${service}; ${has}.` }
    }
    if (of !== 'consumer' && of !== 'tenant') {
      return {
        code: 'not_found',
        detail: `A ${kind} is of a consumer or of a tenant, not of ${JSON.stringify(of)}.`,
      }
    }
    return consumerProblem(id) ?? { kind, service, limit, of, id }
  }

  /** Returns the resulting amounts by tier. */
  function amountsOf({ service, limit, of, id }: AmountKey): Record<string, number> {
    const { services, tiers } = deps.config.current()
    const found = services.find(({ name }) => name === service)
    const [consumer, tenant] = of === 'consumer' ? [id, undefined] : ['', id]
    return Object.fromEntries(
      (found?.policies ?? []).flatMap((policy, tier) => {
        const held = policy && deps.store().amounts.policyFor(found!, policy, consumer, tenant)
        const one = held?.limits.find(({ name }) => name === limit)
        return one === undefined ? [] : [[tiers[tier]!, one.amount]]
      }),
    )
  }

  function shown(key: AmountKey, { amount, until, reason }: Amount): object {
    const { kind, of, id, service, limit } = key
    const common = {
      [of]: id,
      service,
      limit,
      [NUMBER[kind]]: amount,
      until: isoOf(until),
      reason: reason ?? null,
    }
    return { ...common, amounts: amountsOf(key) }
  }

  async function put(kind: AmountKind, request: FastifyRequest<AmountOf>, reply: FastifyReply) {
    const key = keyOf(kind, request.params)
    if ('code' in key) return sendProblem(reply, key)
    const word = NUMBER[kind]
    const body: Record<string, unknown> | undefined = bodyWith(request.body, [word, 'for'])
    const amount = body?.[word]
    if (typeof amount !== 'number' || (kind === 'boost' && body?.for === undefined)) {
      const example =
        kind === 'boost'
          ? '{"by":500,"for":"1h"}'
          : '{"amount":5000}, with "for":"30d" when it ends by itself,'
      return sendProblem(reply, { code: 'bad_request', detail: `Send ${example} and nothing else, as JSON.` })
    }
    const ms = periodOf(body?.for)
    if (typeof ms === 'object') return sendProblem(reply, ms)
    const wrong = amountProblem(kind, deps.config.current().services, key, amount)
    if (wrong !== undefined) return sendProblem(reply, wrong)
    const until = ms === undefined ? undefined : Date.now() + ms
    const value = { amount, until, reason: request.actor.reason?.slice(0, LONGEST_REASON) }
    try {
      const text = amountKeyText(key)
      const before = numberOf(kind, await map().read(text))
      await map().set(text, value)
      const after = numberOf(kind, value)
      await deps.audit.record(request, { action: `${kind}.set`, target: targetOf(key), before, after })
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, `set the ${kind}`))
    }
    return shown(key, value)
  }

  async function remove(kind: AmountKind, request: FastifyRequest<AmountOf>, reply: FastifyReply) {
    const { service, limit, of, id } = request.params
    // It must also be possible to delete an amount for a limit that is no longer configured.
    const bad = consumerProblem(id)
    if (bad !== undefined) return sendProblem(reply, bad)
    if (of !== 'consumer' && of !== 'tenant') {
      return sendProblem(reply, { code: 'not_found', detail: `A ${kind} is of a consumer or of a tenant.` })
    }
    const key = { kind, service, limit, of, id } as const
    const text = amountKeyText(key)
    // A colon in the name of a service would make this the boost of another consumer, and the audit log would not tell
    // which.
    const isOwn = isDeepStrictEqual(readAmountKey(text), key)
    try {
      const before = isOwn ? await map().read(text) : undefined
      if (before === undefined) {
        const detail = `There is no ${kind} of ${limit} on ${service} for ${of} ${JSON.stringify(id)}; list them to see what holds.`
        return sendProblem(reply, { code: 'not_found', detail })
      }
      await map().set(text, undefined)
      const change = {
        action: `${kind}.remove`,
        target: targetOf(key),
        before: numberOf(kind, before),
      } as const
      await deps.audit.record(request, change)
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, `remove the ${kind}`))
    }
    return { [of]: id, service, limit, removed: true, amounts: amountsOf(key) }
  }

  /** Lists amounts; the ones that end first come first. */
  function list(kind: AmountKind, { consumer, tenant, service }: AmountOf['Querystring']): object {
    const all: { key: AmountKey; value: Amount }[] = []
    for (const [text, value] of map().entries()) {
      const key = readAmountKey(text)
      if (key?.kind !== kind || (service !== undefined && key.service !== service)) continue
      if (consumer !== undefined && (key.of !== 'consumer' || key.id !== consumer)) continue
      if (tenant !== undefined && (key.of !== 'tenant' || key.id !== tenant)) continue
      all.push({ key, value })
    }
    const end = ({ value }: { value: Amount }) => value.until ?? Number.MAX_SAFE_INTEGER
    all.sort((a, b) => end(a) - end(b))
    const told = all.slice(0, MOST_TOLD)
    return {
      [`${kind}s`]: told.map(({ key, value }) => shown(key, value)),
      not_shown: all.length - told.length,
    }
  }

  app.get<AmountOf>('/boosts', async (request) => list('boost', request.query))
  app.put<AmountOf>('/boosts/:service/:limit/:of/:id', FOR_SUPPORT, async (request, reply) =>
    put('boost', request, reply),
  )
  app.delete<AmountOf>('/boosts/:service/:limit/:of/:id', FOR_SUPPORT, async (request, reply) =>
    remove('boost', request, reply),
  )
  app.get<AmountOf>('/overrides', async (request) => list('override', request.query))
  app.put<AmountOf>('/overrides/:service/:limit/:of/:id', async (request, reply) =>
    put('override', request, reply),
  )
  app.delete<AmountOf>('/overrides/:service/:limit/:of/:id', async (request, reply) =>
    remove('override', request, reply),
  )
}

/** Returns the limits of all tiers. */
export function limitsOf({ policies }: Service): readonly Limit[] {
  return policies.flatMap((policy) => policy?.limits ?? [])
}

/** Checks a number against the limits with that name; returns the problem, if any. */
export function amountProblem(
  kind: AmountKind,
  services: readonly Service[],
  { service, limit }: Pick<AmountKey, 'service' | 'limit'>,
  amount: number,
): Problem | undefined {
  const most = Math.min(
    ...limitsOf(services.find(({ name }) => name === service)!)
      .filter(({ name }) => name === limit)
      .map(({ windowMs, calendar, amount, burst }) => {
        const exact = calendar === undefined ? Math.floor((2 ** 53 - 1) / windowMs) : MOST_AMOUNT
        return Math.min(exact, MOST_AMOUNT) - (kind === 'boost' ? Math.max(amount, burst) : burst - amount)
      }),
  )
  if (Number.isInteger(amount) && amount >= 1 && amount <= most) return undefined
  const detail = `"${NUMBER[kind]}" is ${amount}; it is a whole number from 1 to ${most}, which is as much as ${limit} of ${service} can count.`
  return { code: 'unprocessable', detail }
}

export const targetOf = ({ service, limit, of, id }: AmountKey) => `${service}/${limit}/${of}/${id}`

/** Returns the number for the audit log. */
export function numberOf(kind: AmountKind, value: Amount | undefined): unknown {
  if (value === undefined) return undefined
  const until = isoOf(value.until)
  return { [NUMBER[kind]]: value.amount, ...(until === null ? {} : { until }) }
}
