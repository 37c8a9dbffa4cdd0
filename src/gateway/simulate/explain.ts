import { performance } from 'node:perf_hooks'
import { distance } from 'fastest-levenshtein'
import { takesStoredKeys } from '../../config/snapshot/consumers.js'
import { mostSpecificFirst } from '../../config/snapshot/route-order.js'
import { compileRouter } from '../../config/snapshot/router.js'
import type { Route, Snapshot } from '../../config/snapshot/snapshot.js'
import type { SeenNonces } from '../../credentials/seen-nonces.js'
import type { Tokens } from '../../credentials/tokens.js'
import { ERRORS, type ErrorCode, type Refusal } from '../../errors.js'
import type { TierAssignments } from '../../fleet/assignments.js'
import type { Bans } from '../../fleet/bans.js'
import { createKeyring, type KeyStore } from '../../fleet/keyring.js'
import type { Amounts } from '../../fleet/overrides.js'
import type { Decision, Limiter } from '../../limiter/limiter.js'
import { askStore } from '../../limiter/redis/store-timeout.js'
import { canonicalPath } from '../../net/path.js'
import { createShares } from '../../shares.js'
import {
  type DecisionData,
  decisionPart,
  hookEffects,
  reportedLimits,
  tierFrom,
} from '../../telemetry/decisions/decision-data.js'
import type { Explained, ExplainQuestion } from '../../telemetry/decisions/explained-decision.js'
import { whyOf } from '../../telemetry/decisions/why.js'
import { pathOf } from '../../telemetry/record/target.js'
import type { OpenTierSources } from '../../tier-sources/tier-sources.js'
import type { GuardState } from '../../upstream/guard/guard.js'
import type { UpstreamState } from '../../upstream/pool/state.js'
import { Exchange } from '../exchange/exchange.js'
import { identityHeader, NO_HEADERS, readHeaders } from '../exchange/headers.js'
import { hookStateOf } from '../extensions/request-view.js'
import { createHookRunner } from '../extensions/runner.js'
import type { Asking } from '../identify/forward.js'
import { costOf } from '../quota/cost.js'
import { outcomeOf, type Stage } from '../request-lifecycle.js'
import { authorize } from '../stages/authorize.js'
import { identifyConsumer } from '../stages/consumer.js'
import { respondDirectly } from '../stages/direct-response.js'
import { checkEdge } from '../stages/edge.js'
import { createHookStages } from '../stages/extensions.js'
import { checkForward } from '../stages/forward-auth.js'
import { resolveLimits } from '../stages/limits.js'
import { levelsOf } from '../stages/quota.js'
import { matchRoute } from '../stages/route.js'
import { chooseService } from '../stages/service.js'
import { resolveTier } from '../stages/tier.js'

export interface ExplainDeps {
  readonly snapshot: () => Snapshot
  /** Returns the store in use: a restart of the workers may open another. */
  readonly store: () => {
    readonly limiter: Pick<Limiter, 'preview'>
    readonly assignments: Pick<TierAssignments, 'find' | 'isWhole'>
    readonly amounts: Pick<Amounts, 'find' | 'policyFor' | 'isWhole'>
    readonly bans: Pick<Bans, 'size' | 'match'>
    readonly keys: KeyStore
  }
  readonly tierSources?: Pick<OpenTierSources, 'sources'> | undefined
  readonly tokens: Pick<Tokens, 'verify' | 'unknownTier'>
  readonly forwardAuth?: Asking | undefined
  /** Nonces that requests have used. Default: none is known. */
  readonly nonces?: Pick<SeenNonces, 'has'> | undefined
  /** Returns the guards of the running gateway; none if none runs. */
  readonly guards: () => Promise<readonly GuardState[] | undefined>
  /** Returns the upstreams of the running gateway; none if none runs. */
  readonly upstreams: () => Promise<readonly UpstreamState[] | undefined>
}

/** Maximum number of routes listed. */
const MOST_FITS = 5
const MOST_NEAR = 3
const KEYS_PATIENCE_MS = 3000

const QUIET = { edgeDenied() {}, extensionFailed() {}, warn() {} }

interface Outcome {
  readonly status: number
  readonly error: ErrorCode | undefined
  readonly detail: string | undefined
}

/**
 * Explains what would happen to a request. It uses the stages of a real request up to the quota, which is read without
 * a charge. It leaves out what depends on the connection (a client certificate) and on the gateway's load.
 */
export function createExplain(deps: ExplainDeps): (question: ExplainQuestion) => Promise<Explained> {
  const { snapshot: current, store, tokens, forwardAuth, tierSources, nonces, guards, upstreams } = deps
  const keyring = createKeyring({ store: () => store().keys })
  const runHooks = createHookRunner({ metrics: QUIET, log: QUIET, looksOnly: true })
  const hooks = createHookStages(runHooks, createShares())

  async function run(x: Exchange): Promise<Outcome | undefined> {
    const { assignments, amounts, bans } = store()
    const stages: readonly Stage[] = [
      checkEdge({ metrics: QUIET, bans, looksOnly: true }),
      matchRoute,
      respondDirectly,
      // The key does not count as used, and the nonce stays valid for the real request.
      identifyConsumer({
        runHooks,
        tokens,
        forwardAuth,
        keyring: { ...keyring, used() {} },
        nonces: {
          isNew: (keyid, nonce, window, _most, now) => nonces?.has(keyid, nonce, window, now) !== true,
        },
      }),
      authorize,
      checkForward(forwardAuth),
      resolveTier(assignments, tierSources),
      hooks.onRequest,
      chooseService(() => 0),
      resolveLimits(amounts),
      hooks.cost,
    ]
    return endOf(x, stages)
  }

  async function endOf(x: Exchange, stages: readonly Stage[]): Promise<Outcome | undefined> {
    for (const stage of stages) {
      const ended = await outcomeOf(stage, x)
      if (ended !== undefined)
        return 'code' in ended
          ? refusal(ended)
          : { status: ended.status, error: undefined, detail: ended.cause }
    }
    return undefined
  }

  async function circuitOf(x: Exchange): Promise<Outcome | undefined> {
    const found = (await guards())?.find(({ service }) => service === x.route!.service.name)
    return found?.circuit === 'open' ? refusal({ code: 'circuit_open' }) : undefined
  }

  async function upstreamsOf({ route }: Exchange): Promise<Explained['upstreams']> {
    const all = ((await upstreams()) ?? []).filter(({ service }) => service === route!.service.name)
    const count = (...states: UpstreamState['state'][]) =>
      all.filter(({ state }) => states.includes(state)).length
    return all.length === 0
      ? null
      : { all: all.length, serving: count('serving', 'slow_start'), drained: count('drained') }
  }

  async function preview(x: Exchange): Promise<Decision | undefined> {
    const route = x.route!
    x.cost = costOf(x, route)
    if (x.policy === undefined) return undefined
    return store().limiter.preview(route.quotaOf, x.policy, x.consumer!, x.cost, levelsOf(x))
  }

  return async (question) => {
    const snapshot = current()
    const { method, url, peer } = question
    const read = readHeaders(question.headers.flat(), snapshot, snapshot.isTrustedProxy(peer))
    const bad = 'code' in read ? refusal(read) : undefined
    const headers = 'code' in read ? NO_HEADERS : read
    const x = new Exchange(snapshot, '', method, url, headers, peer, performance.now())
    // If the keys are not loaded by then, the answer is the one that clients get.
    const isHeld = keyring.hold(takesStoredKeys(snapshot.consumers))
    await askStore(KEYS_PATIENCE_MS, isHeld).catch(() => {})
    const ended = bad ?? (await run(x)) ?? (await circuitOf(x))
    let decision: Decision | undefined
    let problem: string | null = null
    if (ended === undefined) {
      try {
        decision = await preview(x)
      } catch (error) {
        problem = (error as Error).message
      }
    }
    const admitted = ended === undefined && problem === null && decision?.allowed !== false
    const failed = admitted ? await endOf(x, [hooks.onUpstreamRequest]) : undefined
    const passes = admitted && failed === undefined
    noteNotRun(x, passes ? 'onResponse' : decision?.allowed === false ? 'onDenied' : undefined)
    const found = ended === undefined ? await upstreamsOf(x) : null
    const nobody = passes && found !== null && found.drained === found.all
    const d = dataOf(x, ended ?? failed, decision)
    const { request_id, time, upstream, upstream_ms, duration_ms, ...rest } = d
    const key = x.path === '' ? undefined : canonicalPath(x.path)?.key
    const fits = key === undefined ? [] : fitting(snapshot.routes, method, x.host, key)
    return {
      why:
        problem === null
          ? whyOf(d) + disbelieved(x) + (passes && found !== null ? beyond(found, d.service!) : '')
          : `The store is out of reach, so the decision of the limits is unknown; ${x.route!.quotaOf.name} is ${x.route!.quotaOf.onFailure} meanwhile (on_failure).`,
      ...rest,
      ...(nobody && { status: ERRORS.no_upstream.status, error: 'no_upstream' }),
      fits: fits.slice(0, MOST_FITS),
      near: key === undefined || fits.length > 0 ? [] : nearest(snapshot.routes, method, x.host, key),
      split: splitOf(x, snapshot),
      token: tokenOf(x),
      upstreams: found,
      problem,
    }
  }
}

/** Notes the hooks of a kind that never runs here. */
function noteNotRun(x: Exchange, kind: 'onResponse' | 'onDenied' | undefined): void {
  for (const { extension, hook } of (kind && x.route!.hooks?.[kind]) ?? [])
    hookStateOf(x).notes.push(extension, hook, 'was not run')
}

/** Explains that an identity header is not trusted from the request's address. */
function disbelieved({ snapshot, headers, peer, identifiedBy, route }: Exchange): string {
  if (identifiedBy === 'header') return ''
  for (const source of route?.auth?.sources ?? snapshot.consumers) {
    if (source.kind !== 'header' || source.believes(peer)) continue
    if (identityHeader(headers, source.header) === undefined) continue
    return ` The gateway does not trust the header ${source.header} from ${peer} (header.from, or trusted_proxies).`
  }
  return ''
}

/** Describes what follows after the limits. */
function beyond({ all, serving, drained }: NonNullable<Explained['upstreams']>, service: string): string {
  if (drained === all) {
    const which = all === 1 ? 'the only upstream' : `each of the ${all} upstreams`
    return ` But ${which} of ${service} is drained: ${ERRORS.no_upstream.status} no_upstream.`
  }
  if (serving > 0) return ''
  return all === 1
    ? ` But the only upstream of ${service} is out; the gateway uses it all the same.`
    : ` But none of the ${all} upstreams of ${service} is serving; the gateway uses one that is not drained all the same.`
}

function refusal({ code, detail, cause }: Refusal): Outcome {
  const told = (detail ?? ERRORS[code].detail).replace(/\.$/, '')
  return {
    status: ERRORS[code].status,
    error: code,
    // The operator may see details that a client does not.
    detail: cause === undefined ? told : code === 'forbidden' ? cause : `${told} (${cause})`,
  }
}

function dataOf(x: Exchange, ended: Outcome | undefined, decision: Decision | undefined): DecisionData {
  const { route, snapshot, tier, policy } = x
  const denied = decision?.allowed === false
  const code = decision?.decidedBy === 'closed' ? 'store_unavailable' : 'quota_exceeded'
  return {
    request_id: '',
    time: '',
    config: snapshot.hash,
    method: x.method,
    host: x.host,
    path: x.path === '' ? pathOf(x.target) : x.path,
    client_ip: x.clientIp,
    route: route?.label ?? null,
    service: route?.service.name ?? null,
    quota_of: route === undefined || route.quotaOf === route.service ? null : route.quotaOf.name,
    consumer: x.consumer ?? null,
    tenant: x.tenant ?? null,
    identified_by: x.identifiedBy ?? null,
    key_id: x.keyId ?? null,
    tier: snapshot.tiers[tier] ?? null,
    tier_from: tierFrom(x.tierFrom, x.tierSource),
    tier_stale: x.tierStale,
    tier_unchecked: x.tierUnchecked,
    limits_unchecked: x.limitsUnchecked,
    ...(x.exempt && { exempt: true }),
    tier_until: x.tierUntil === undefined ? null : new Date(x.tierUntil).toISOString(),
    cost: x.cost ?? route?.cost ?? null,
    ...hookEffects(x.hooks?.notes),
    decision: decision && policy ? decisionPart(decision, policy.limits, undefined, 0) : null,
    limits: decision && policy ? reportedLimits(policy.limits, decision, decision.counted?.numbers) : [],
    status: ended?.status ?? (denied ? ERRORS[code].status : 0),
    error: ended?.error ?? (denied ? code : null),
    cause: ended?.detail ?? null,
    upstream: null,
    upstream_ms: 0,
    duration_ms: 0,
  }
}

const labelOf = (route: Route, host: string) =>
  `${route.methods.length === 0 ? '' : `${route.methods.join(',')} `}${host}${route.path}`

/** Returns the matching routes, by the router itself, one route at a time. */
function fitting(routes: readonly Route[], method: string, host: string, key: string): string[] {
  return mostSpecificFirst(routes).flatMap(({ route, host: own }) => {
    const only = { path: route.path, methods: route.methods, hosts: own === '' ? [] : [own] }
    return compileRouter([only])(method, host, key) === only ? [labelOf(route, own)] : []
  })
}

/** Returns the routes that match except for the host or the method, otherwise those with the most similar path. */
function nearest(routes: readonly Route[], method: string, host: string, key: string): string[] {
  const lines = mostSpecificFirst(routes)
  const but = lines.filter(({ route, host: own }) => {
    const hosts = own === '' ? [] : [own]
    const anywhere = { path: route.path, methods: route.methods, hosts: [] }
    const anyhow = { path: route.path, methods: [], hosts }
    return (
      compileRouter([anywhere])(method, host, key) === anywhere ||
      compileRouter([anyhow])('GET', host, key) === anyhow
    )
  })
  const far = (path: string) => distance(path.replace(/\/\*$/, ''), key.slice(0, path.length))
  const alike = but.length > 0 ? but : [...lines].sort((a, b) => far(a.route.path) - far(b.route.path))
  return alike.slice(0, MOST_NEAR).map(({ route, host: own }) => labelOf(route, own))
}

/**
 * Describes the split. Its choice is random: the explanation is for the first member. A sticky split knows the
 * consumer's member.
 */
function splitOf({ route, consumer }: Exchange, { routes }: Snapshot): Explained['split'] {
  const split = routes.find((one) => one.split?.members.some((member) => member.route === route))?.split
  if (split === undefined || (split.sticky && consumer !== undefined)) return null
  return split.members.map(({ weight, route: { service } }) => ({ service: service.name, weight }))
}

/** Returns the claims that were used, by their names in the token. The token itself is never shown. */
function tokenOf({ token, snapshot }: Exchange): Explained['token'] {
  if (token === undefined) return null
  const { issuer, consumer, tier, tenant, scopes, expires } = token
  const settings = snapshot.consumers
    .flatMap((source) => (source.kind === 'jwt' ? source.issuers : []))
    .find((one) => one.issuer === issuer)
  if (settings === undefined) return null
  const claims: Record<string, string> = { [settings.id.name]: consumer.slice(settings.idPrefix.length) }
  if (settings.tier && tier !== undefined) claims[settings.tier.name] = tier
  if (settings.tenant && tenant !== undefined) claims[settings.tenant.name] = tenant
  if (scopes.length > 0) claims[settings.scopes.name] = scopes.join(' ')
  const unknown = tier !== undefined && !snapshot.tiers.includes(tier) ? tier : null
  return { issuer, claims, expires: new Date(expires * 1000).toISOString(), unknown_tier: unknown }
}
