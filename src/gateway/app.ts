import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import type { Refusal } from '../errors.js'
import type { TierAssignments } from '../fleet/assignments.js'
import type { Bans } from '../fleet/bans.js'
import type { Keyring } from '../fleet/keyring.js'
import { type Amounts, NO_AMOUNTS } from '../fleet/overrides.js'
import type { Limiter } from '../limiter/limiter.js'
import { throttledWarning } from '../log-throttle.js'
import { createShares, type Shares } from '../shares.js'
import type { LastSeen } from '../telemetry/decisions/last-seen.js'
import type { OpenTierSources } from '../tier-sources/tier-sources.js'
import { type AcceptDeps, createAccept } from './accept.js'
import { type AutoBanDeps, autoBan } from './edge/auto-ban.js'
import { type ApplicationCaller, Exchange } from './exchange/exchange.js'
import { readHeaders } from './exchange/headers.js'
import { securedOf } from './exchange/tls-info.js'
import { createHookRunner, endHooks, type HookRunner, type HookRunnerDeps } from './extensions/runner.js'
import { type ForwardDeps, forward } from './forward/forward.js'
import { createMirror, type MirrorDeps } from './forward/mirror.js'
import { identifyByApplication } from './identify/application.js'
import type { Http2Counts } from './listen/http2/connection.js'
import { createHttp2, createHttp2Counts } from './listen/http2/server.js'
import { createConnectionCounts, type Entrance } from './listen/listener.js'
import { createPlainConnections } from './listen/plain/connections.js'
import { type Accepting, createServer } from './listen/server.js'
import { type Charges, createCharges } from './quota/charges.js'
import type { Lifecycle, Stage } from './request-lifecycle.js'
import type { Answer } from './respond/send-response.js'
import { type AdmitDeps, admit } from './stages/admit.js'
import { authorize } from './stages/authorize.js'
import { type IdentifyDeps, identifyConsumer } from './stages/consumer.js'
import { answerAsterisk, respondDirectly } from './stages/direct-response.js'
import { bannedBy, checkEdge, denyBanned, type EdgeDeps } from './stages/edge.js'
import { createHookStages } from './stages/extensions.js'
import { checkForward } from './stages/forward-auth.js'
import { resolveLimits } from './stages/limits.js'
import { type QuotaDeps, takeQuota } from './stages/quota.js'
import { dropBody, readBodyEarly, readBodyLate } from './stages/read-body.js'
import { type RecordDeps, record } from './stages/record.js'
import { matchRoute } from './stages/route.js'
import { chooseService } from './stages/service.js'
import { resolveTier } from './stages/tier.js'
import { leaveTunnel, takeTunnel } from './stages/tunnel-place.js'
import { checkHandshake } from './websocket/handshake.js'
import { createSessionRevocation, onRevocation } from './websocket/session-revocation.js'
import { createUpgrades } from './websocket/upgrades.js'

/** Parts that the gateway gets from outside: those of its stages, and those that several stages share. */
export type GatewayDeps = Omit<IdentifyDeps, 'runHooks'> &
  AdmitDeps &
  RecordDeps &
  Pick<AcceptDeps, 'snapshot' | 'tracing'> &
  Omit<ForwardDeps, 'mirror' | 'shares' | 'runHooks'> &
  Pick<EdgeDeps, 'clock'> & {
    readonly limiter: Pick<Limiter, 'decide' | 'settle'>
    readonly assignments: Pick<TierAssignments, 'find' | 'isWhole'>
    /** Sources of tiers that neither an assignment nor the credential tells. Left out: there are none. */
    readonly tierSources?: Pick<OpenTierSources, 'sources'>
    /** Boosts and overrides. Left out: there are none. */
    readonly amounts?: Pick<Amounts, 'find' | 'policyFor' | 'isWhole'>
    readonly keyring?: Pick<Keyring, 'goodUntil' | 'onChange'> | undefined
    readonly metrics: EdgeDeps['metrics'] &
      QuotaDeps['metrics'] &
      MirrorDeps['metrics'] &
      HookRunnerDeps['metrics'] & {
        /** Counts an exchange that ended because something threw. */
        internalError(): void
      }
    /** The bans. Left out: nobody is banned. */
    readonly bans?: Bans | undefined
    /** Shares a ban of this gateway with all gateways. */
    readonly shareBan?: AutoBanDeps['share']
    /** Returns the current time in Unix ms, for the credentials that tunnels were opened with. */
    readonly unixTime?: () => number
    /** Shares of everything that is bounded, by holder. Left out: the gateway has its own, and trusts no proxy. */
    readonly shares?: Shares
    /** Notes by which credential each consumer came last. Left out: nothing is noted. */
    readonly seen?: Pick<LastSeen, 'saw'> | undefined
    readonly log: Record<'error' | 'warn', (fields: object, message: string) => void>
    /** True if an application hands requests over, and may say who is calling. */
    readonly mounted?: boolean | undefined
    /** The steps between the port and the first request; by default only counting. */
    readonly entrance?: Entrance
    /** Updated when HTTP/2 is enabled. */
    readonly http2?: Http2Counts
  }

/**
 * Returns the stages of a request, in order. Each writes what it finds into the exchange, or refuses. A request that passes
 * all of them is forwarded; `record` sees every outcome.
 */
function stagesOf(edge: EdgeStage, { free, charged }: StagesBehind): readonly Stage[] {
  return [edge, answerAsterisk, matchRoute, respondDirectly, ...free, ...charged]
}

/**
 * Returns the stages of an upgrade. Anything that is not a handshake for the route is refused before it is charged. A place
 * for the tunnel is reserved before the quota is taken.
 */
function handshakeStagesOf(
  edge: EdgeStage,
  shares: Shares,
  { free, charged }: StagesBehind,
): readonly Stage[] {
  return [edge, matchRoute, checkHandshake, ...free, takeTunnel(shares), ...charged]
}

/**
 * Returns the stages that requests and upgrades share, once their route is known and the gateway does not answer itself.
 * Both must use the same instances: a nonce that one has seen must not be accepted by the other.
 */
function stagesBehind(
  deps: GatewayDeps,
  charges: Charges,
  shares: Shares,
  runHooks: HookRunner,
): StagesBehind {
  const { limiter, assignments, amounts = NO_AMOUNTS, tierSources, metrics, bans } = deps
  const hooks = createHookStages(runHooks, shares)
  const byCredential = identifyConsumer({ ...deps, runHooks })
  const byService = checkForward(deps.forwardAuth)
  const identify = deps.mounted === true ? applicationFirst(byCredential, deps.log) : byCredential
  const bodies = { shares, watchdog: deps.watchdog }
  return {
    free: [
      bans === undefined ? identify : stillLetIn(identify, bans, metrics),
      authorize,
      bans === undefined ? byService : stillLetIn(byService, bans, metrics),
      noteSeen(deps.seen),
      resolveTier(assignments, tierSources),
      readBodyEarly(bodies),
      hooks.onRequest,
      chooseService(),
      readBodyLate(bodies),
      resolveLimits(amounts),
      admit(deps),
    ],
    charged: [hooks.cost, takeQuota({ limiter, charges, metrics, runHooks }), hooks.onUpstreamRequest],
  }
}

interface StagesBehind {
  /** The stages in which nothing is charged. */
  readonly free: readonly Stage[]
  /** The rest. */
  readonly charged: readonly Stage[]
}

/** Takes the application's word for who is calling, if it has one. */
function applicationFirst(identify: Stage, log: GatewayDeps['log']): Stage {
  const warn = throttledWarning(log)
  const unknownTier = (tier: string) =>
    warn({ tier }, 'the application names a tier that the configuration does not have: it counts as none')
  return (x, later) => {
    const identified = identifyByApplication(x, unknownTier)
    return identified === 'absent' ? identify(x, later) : identified
  }
}

/** Notes the credential's data, before the tier sources add to it. */
function noteSeen(seen: GatewayDeps['seen']): Stage<undefined> {
  return (x) => {
    seen?.saw(x)
    return undefined
  }
}

/**
 * Checks for a ban again after a credential that took time to check: a caller that was banned meanwhile must not learn that
 * it was good.
 */
function stillLetIn(identify: Stage, bans: Bans, metrics: GatewayDeps['metrics']): Stage {
  return (x, later) => {
    const found = identify(x, later)
    return found instanceof Promise ? found.then((ending) => ending ?? denyBanned(x, bans, metrics)) : found
  }
}

type EdgeStage = ReturnType<typeof checkEdge>

/** The data plane without a port: whatever reads requests hands them to it. */
export interface DataPlane extends Accepting {
  accept(req: IncomingMessage, res: ServerResponse, caller?: ApplicationCaller): void
  acceptUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer, caller?: ApplicationCaller): void
  /** Hands a connection to its protocol. */
  speak(socket: Socket, http1: (socket: Socket) => void): void
  /** Returns true unless no route takes the request. One that cannot be read is the gateway's to refuse. */
  takes(req: IncomingMessage): boolean
}

/** Builds the data plane behind a port of its own: an app that is not listening yet. */
export function buildGateway(deps: GatewayDeps): FastifyInstance {
  const plane = buildDataPlane(deps)
  const { snapshot, entrance = { counts: createConnectionCounts(), log: QUIET } } = deps
  return createServer({ snapshot, entrance, speak: plane.speak }, plane)
}

export function buildDataPlane(deps: GatewayDeps): DataPlane {
  const { shares = createShares(), bans } = deps
  const charges = createCharges(deps.limiter)
  const edge = checkEdge(deps)
  const banAfter = bans && autoBan({ bans, share: deps.shareBan, clock: deps.clock, log: deps.log })
  const runHooks = createHookRunner(deps)
  const behind = stagesBehind(deps, charges, shares, runHooks)
  const banOf = (address: string) => bans && bannedBy(address, deps.snapshot(), bans)
  const upgrades = createUpgrades({
    ...deps,
    shares,
    internal,
    stay: createSessionRevocation({ ...deps, banOf }),
  })
  onRevocation(deps, upgrades.turnAway)
  const endings = [charges.settle, endHooks, leaveGuard, leaveTunnel, dropBody, record(deps)]
  const way: Lifecycle = {
    stages: stagesOf(edge, behind),
    send: forward({ ...deps, shares, runHooks, mirror: createMirror({ ...deps, internal }) }),
    done,
    ending,
    internal,
    watchdog: deps.watchdog,
    draining: deps.draining,
  }
  const accept = createAccept({
    snapshot: deps.snapshot,
    tracing: deps.tracing,
    way,
    upgrades,
    handshake: handshakeStagesOf(edge, shares, behind),
    report,
  })

  /** Finishes every exchange, once. If a step throws, the next one runs even so. */
  function done(x: Exchange): void {
    for (const step of endings) {
      try {
        step(x)
      } catch (error) {
        internal(x, error)
      }
    }
  }

  /** Returns what to send. A caller that is banned by now must not learn whether its guess was good. */
  function ending<E extends Refusal | Answer>(x: Exchange, how: E): E | Refusal {
    const code = 'code' in how ? how.code : how.countsAs
    if (code !== 'unauthorized' && code !== 'quota_exceeded' && code !== 'address_limited') return how
    if (bans === undefined || banAfter === undefined) return how
    const banned = denyBanned(x, bans, deps.metrics)
    if (banned === undefined) banAfter(x, code)
    return banned ?? how
  }

  function internal(x: Exchange, error: unknown): Refusal {
    return { code: 'internal', cause: report({ request_id: x.requestId }, error).split('\n', 1)[0]! }
  }

  function report(fields: object, error: unknown): string {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    deps.metrics.internalError()
    deps.log.error({ ...fields, error: text }, 'a request failed because of a fault in the gateway')
    return text
  }

  const { server: settings } = deps.snapshot().config
  const http2 = settings.http2.enabled
    ? createHttp2({
        settings,
        counts: deps.http2 ?? createHttp2Counts(),
        draining: deps.draining,
        accept: accept.stream,
      })
    : undefined
  const plain = createPlainConnections({
    settings,
    accept: accept.request,
    silent(socket) {
      // Without TLS and with two protocols, it is not known in which one to tell the client.
      if (http2 === undefined || securedOf(socket) !== undefined)
        accept.refuseUnparsed(socket, 'request_timeout', 'no request arrived in time')
      else socket.destroy()
    },
  })
  const { requests, tls } = settings.plain_path
  /** Hands a connection to its protocol. One of HTTP/1.1 takes the plain path until its bytes show otherwise. */
  function speak(socket: Socket, http1: (socket: Socket) => void): void {
    const other = http2 === undefined ? http1 : (unread: Socket) => http2.speak(unread, http1)
    const byPlain =
      securedOf(socket) === undefined ? requests : tls && (socket as TLSSocket).alpnProtocol !== 'h2'
    if (byPlain) plain.take(socket, other, http1)
    else other(socket)
  }
  return {
    accept: accept.request,
    acceptUpgrade: accept.upgrade,
    acceptConnect: accept.connect,
    parserFailed: accept.parserGaveUp,
    speak,
    takes(req) {
      const snapshot = deps.snapshot()
      const headers = readHeaders(req.rawHeaders, snapshot, false)
      if ('code' in headers) return true
      return (
        matchRoute(new Exchange(snapshot, '', req.method!, req.url!, headers, '', 0))?.code !== 'no_route'
      )
    },
    leave() {
      http2?.leave()
      plain.leave()
      return upgrades.leave()
    },
    closeAll() {
      http2?.destroy()
      plain.closeAll()
    },
  }
}

/** Releases the place of an exchange that never reached an upstream: nothing else has reported its end. */
function leaveGuard(x: Exchange): void {
  x.pass?.left(0, 0)
}

const QUIET = { warn() {}, debug() {} }
