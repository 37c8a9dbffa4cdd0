import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { SeenNonces } from '../credentials/seen-nonces.js'
import type { Tokens } from '../credentials/tokens.js'
import type { ErrorCode, Refusal } from '../errors.js'
import type { Ban, Bans } from '../fleet/bans.js'
import type { Keyring } from '../fleet/keyring.js'
import { type Amounts, NO_AMOUNTS } from '../fleet/overrides.js'
import type { Decision, Limiter, TierAssignments } from '../limiter/limiter.js'
import { createShares, type Shares } from '../shares.js'
import type { LastSeen } from '../telemetry/decisions/last-seen.js'
import type { EdgeReason, MirrorResult, ShedReason } from '../telemetry/metrics/recorder.js'
import type { RequestRecord } from '../telemetry/record/record.js'
import type { Tracing } from '../telemetry/traces/tracing.js'
import type { Plans } from '../tier-sources/tier-sources.js'
import type { Guards } from '../upstream/guard/guard.js'
import type { Upstreams } from '../upstream/pool/pool.js'
import { autoBan } from './edge/auto-ban.js'
import type { Overload } from './edge/overload.js'
import { Exchange } from './exchange/exchange.js'
import { checkVersion, NO_HEADERS, type RequestHeaders, readHeaders } from './exchange/headers.js'
import { securedOf } from './exchange/tls-info.js'
import { detailsOf, traceOfCaller } from './exchange/trace.js'
import type { Watchdog } from './exchange/watchdog.js'
import type { ReplayMemory } from './forward/body-buffer.js'
import { forward } from './forward/forward.js'
import { createMirror } from './forward/mirror.js'
import { limitExtensions } from './listen/chunk-extensions.js'
import { isClosing, ongoingOn, parserFailed } from './listen/connection.js'
import { readHttp2Head } from './listen/http2-headers.js'
import { createHttp2, createHttp2Counts, type Http2Counts } from './listen/http2-server.js'
import { http2Exchange } from './listen/http2-stream.js'
import { createConnectionCounts, type Entrance } from './listen/listener.js'
import { readNoMore } from './listen/pipeline.js'
import { createPlainConnections } from './listen/plain-connections.js'
import { createServer } from './listen/server.js'
import { type Charges, createCharges } from './quota/charges.js'
import { Ongoing, type Stage, type Way } from './request-lifecycle.js'
import { peerOf, refuseSocket } from './respond/client-error.js'
import { isOut, sendWaiting } from './respond/write-batch.js'
import { admit } from './stages/admit.js'
import { authorize } from './stages/authorize.js'
import { identifyConsumer } from './stages/consumer.js'
import { answerAsterisk, answerHere } from './stages/direct-response.js'
import { bannedBy, checkEdge, denyBanned } from './stages/edge.js'
import { takeQuota } from './stages/quota.js'
import { record } from './stages/record.js'
import { matchRoute } from './stages/route.js'
import { chooseService } from './stages/service.js'
import { resolveTier } from './stages/tier.js'
import { leaveTunnel, takeTunnel } from './stages/tunnel-place.js'
import { checkHandshake } from './websocket/handshake.js'
import { createStay } from './websocket/session-revocation.js'
import { type Upgrades, upgrade } from './websocket/upgrade.js'

export interface GatewayDeps {
  /** Returns the snapshot in force. Each request calls it once, at its start. */
  readonly snapshot: () => Snapshot
  readonly limiter: Pick<Limiter, 'take' | 'settle' | 'preview'>
  readonly assignments: Pick<TierAssignments, 'get'>
  /** Sources of tiers that neither an assignment nor the credential tells. Left out: there are none. */
  readonly plans?: Pick<Plans, 'sources'>
  readonly tokens: Pick<Tokens, 'verify' | 'unknownTier'>
  /** Boosts and overrides. Left out: there are none. */
  readonly amounts?: Pick<Amounts, 'policyFor'>
  /** Left out: API keys of the store are unknown. */
  readonly keyring?: Pick<Keyring, 'find' | 'used' | 'goodUntil' | 'onChange'> | undefined
  /** Left out: only nonces that this gateway has seen are known. */
  readonly nonces?: SeenNonces
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  readonly metrics: {
    record(r: RequestRecord): void
    candidate(r: RequestRecord, decision: Decision): void
    mirrored(service: string, result: MirrorResult): void
    /** Counts an exchange that ended because something threw. */
    internalError(): void
    shed(r: RequestRecord, reason: ShedReason): void
    edgeDenied(reason: EdgeReason): void
  }
  /** Tracks who is limited now, and who costs most. */
  readonly top: { record(r: RequestRecord, now: number): void }
  /** The bans. Left out: nobody is banned. */
  readonly bans?: Bans | undefined
  /** Shares a ban of this gateway with all gateways. */
  readonly shareBan?: ((block: string, ban: Ban) => Promise<void>) | undefined
  /** Monotonic clock in ms, for limits and bans by address. */
  readonly clock?: () => number
  /** Returns the current time in Unix ms, for the credentials that tunnels were opened with. */
  readonly unixTime?: () => number
  /** Shares of everything that is bounded, by holder. Left out: the gateway has its own, and trusts no proxy. */
  readonly shares?: Shares
  readonly guards: Guards
  readonly overload: Pick<Overload, 'pressure' | 'sheds'>
  readonly decisions?: { keep(r: RequestRecord): void } | undefined
  /** Notes by which credential each consumer came last. Left out: nothing is noted. */
  readonly seen?: Pick<LastSeen, 'saw'> | undefined
  readonly accessLog: { write(r: RequestRecord): void }
  readonly log: Record<'error' | 'warn', (fields: object, message: string) => void>
  /** Left out: no request is recorded as a trace. */
  readonly tracing?: Tracing | undefined
  /** The steps between the port and the first request; by default only counting. */
  readonly entrance?: Entrance
  /** Updated when HTTP/2 is enabled. */
  readonly http2?: Http2Counts
  /** Keeps bodies that may have to be sent again. */
  readonly replays?: ReplayMemory
  /** While true, every response asks the client to leave its connection. */
  readonly draining: () => boolean
}

/**
 * Returns the stages of a request, in order. Each writes what it finds into the exchange, or refuses. A request that passes
 * all of them is forwarded; `record` sees every outcome.
 */
function stagesOf(edge: EdgeStage, behind: readonly Stage<Refusal | undefined>[]): readonly Stage[] {
  return [edge, answerAsterisk, matchRoute, answerHere, ...behind]
}

/**
 * Returns the stages of an upgrade. Anything that is not a handshake for the route is refused before it is charged. A place
 * for the tunnel is reserved before the quota is taken.
 */
function handshakeStagesOf(
  edge: EdgeStage,
  shares: Shares,
  behind: readonly Stage<Refusal | undefined>[],
): readonly Stage<Refusal | undefined>[] {
  return [edge, matchRoute, checkHandshake, ...behind.slice(0, -1), takeTunnel(shares), ...behind.slice(-1)]
}

/**
 * Returns the stages that requests and upgrades share, once their route is known and the gateway does not answer itself.
 * Both must use the same instances: a nonce that one has seen must not be accepted by the other.
 */
function stagesBehind(deps: GatewayDeps, charges: Charges): readonly Stage<Refusal | undefined>[] {
  const { limiter, assignments, amounts = NO_AMOUNTS, plans, metrics, bans } = deps
  return [
    bans === undefined ? identifyConsumer(deps) : stillLetIn(identifyConsumer(deps), bans, metrics),
    authorize,
    noteSeen(deps.seen),
    resolveTier(assignments, plans),
    chooseService(),
    admit(deps),
    takeQuota({ limiter, amounts, charges, metrics }),
  ]
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
function stillLetIn(
  identify: Stage<Refusal | undefined>,
  bans: Bans,
  metrics: GatewayDeps['metrics'],
): Stage<Refusal | undefined> {
  return (x) => {
    const found = identify(x)
    return found instanceof Promise ? found.then((refusal) => refusal ?? denyBanned(x, bans, metrics)) : found
  }
}

type EdgeStage = ReturnType<typeof checkEdge>

/** Builds the data plane: an app that is not listening yet. */
export function buildGateway(deps: GatewayDeps): FastifyInstance {
  const { shares = createShares() } = deps
  const charges = createCharges(deps.limiter)
  const edge = checkEdge(deps)
  const banAfter =
    deps.bans && autoBan({ bans: deps.bans, share: deps.shareBan, clock: deps.clock, log: deps.log })
  const behind = stagesBehind(deps, charges)
  const handshakeStages = handshakeStagesOf(edge, shares, behind)
  const banOf = (address: string) => deps.bans && bannedBy(address, deps.snapshot(), deps.bans)
  const upgrades = upgrade({ ...deps, shares, internal, stay: createStay({ ...deps, banOf }) })
  turnAway(deps, upgrades)
  const write = record(deps)
  const { tracing } = deps
  const nextId = requestIds()
  const way: Way = {
    stages: stagesOf(edge, behind),
    send: forward({ ...deps, shares, mirror: createMirror({ ...deps, internal }) }),
    done,
    refusing,
    internal,
    watchdog: deps.watchdog,
    draining: deps.draining,
  }

  /** Finishes every exchange, once. */
  function done(x: Exchange): void {
    attempt(x, charges.settle)
    attempt(x, leaveGuard)
    attempt(x, leaveTunnel)
    attempt(x, write)
  }

  /** Returns the refusal to send. A caller that is banned by now must not learn whether its guess was good. */
  function refusing(x: Exchange, refusal: Refusal): Refusal {
    const { code } = refusal
    if (code !== 'unauthorized' && code !== 'quota_exceeded' && code !== 'address_limited') return refusal
    if (deps.bans === undefined || banAfter === undefined) return refusal
    const banned = denyBanned(x, deps.bans, deps.metrics)
    if (banned === undefined) banAfter(x, code)
    return banned ?? refusal
  }

  /** Runs a step so that the next one runs even if this one throws. */
  function attempt(x: Exchange, step: (x: Exchange) => void): void {
    try {
      step(x)
    } catch (error) {
      internal(x, error)
    }
  }

  function accept(req: IncomingMessage, res: ServerResponse): void {
    try {
      acceptRequest(req, res)
    } catch (error) {
      lost(req.socket, error)
    }
  }

  /** Handles an error before there was an exchange: only the connection, or the stream, can be ended. */
  function lost(socket: Duplex, error: unknown): void {
    report({}, error)
    socket.destroy()
  }

  function acceptRequest(req: IncomingMessage, res: ServerResponse): void {
    // An earlier request on this connection was answered with `Connection: close`: nobody reads later responses.
    if (isClosing(req.socket)) {
      readNoMore(req.socket)
      return
    }
    const started = performance.now()
    const snapshot = deps.snapshot()
    const peer = peerOf(req.socket)
    const headers = headersOf(req, snapshot, peer)
    if ('chunked' in headers && headers.chunked) limitExtensions(req, (error) => failed(error, req.socket))
    new Ongoing(way, exchangeOf(req, snapshot, headers, peer, started), req, res).begin(
      malformed(req, headers),
    )
  }

  /**
   * Handles the error after Node's parser has finished with its bytes: otherwise the parser would continue with a
   * connection that was answered.
   */
  function failed(error: Error, socket: Socket): void {
    queueMicrotask(() => parserGaveUp(error, socket))
  }

  function parserGaveUp(error: Error, socket: Duplex): void {
    try {
      parserFailed(error, socket, (code, unread) => refuseUnparsed(socket, code, error.message, { unread }))
    } catch (thrown) {
      lost(socket, thrown)
    }
  }

  /** Accepts an HTTP/2 stream, which goes the same way as a request. */
  function acceptStream(
    stream: ServerHttp2Stream,
    socket: Socket,
    raw: readonly string[],
    bodiless: boolean,
  ): void {
    try {
      const started = performance.now()
      const snapshot = deps.snapshot()
      const head = readHttp2Head(raw, bodiless)
      const { req, res } = http2Exchange(stream, socket, head, bodiless)
      const peer = peerOf(req.socket)
      const headers = headersOf(req, snapshot, peer)
      const refused = head.refused ?? ('code' in headers ? headers : undefined)
      new Ongoing(way, exchangeOf(req, snapshot, headers, peer, started), req, res).begin(refused)
    } catch (error) {
      lost(stream, error)
    }
  }

  function headersOf(req: IncomingMessage, snapshot: Snapshot, peer: string): RequestHeaders | Refusal {
    return readHeaders(req.rawHeaders, snapshot, snapshot.isTrustedProxy(peer))
  }

  function malformed(req: IncomingMessage, headers: RequestHeaders | Refusal): Refusal | undefined {
    return 'code' in headers ? headers : checkVersion(req.httpVersionMajor, req.httpVersionMinor, headers)
  }

  function exchangeOf(
    req: IncomingMessage,
    snapshot: Snapshot,
    headers: RequestHeaders | Refusal,
    peer: string,
    started: number,
  ): Exchange {
    const known: RequestHeaders = 'code' in headers ? NO_HEADERS : headers
    const x = new Exchange(snapshot, known.requestId ?? nextId(), req.method!, req.url!, known, peer, started)
    x.secured = securedOf(req.socket)
    if (tracing !== undefined) x.trace = tracing.begin(x, req, detailsOf)
    else if (known.traceparent !== undefined) x.trace = traceOfCaller(known.traceparent)
    return x
  }

  /** Accepts an upgrade, which goes the same way, on a socket that Node's parser has let go of. */
  function acceptUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    try {
      beginUpgrade(req, socket, head)
    } catch (error) {
      lost(socket, error)
    }
  }

  function beginUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (isClosing(socket)) {
      // An earlier request was answered with `Connection: close`: nobody reads later responses.
      socket.on('error', () => {})
      return
    }
    const started = performance.now()
    const snapshot = deps.snapshot()
    const peer = peerOf(req.socket)
    const headers = headersOf(req, snapshot, peer)
    const x = exchangeOf(req, snapshot, headers, peer, started)
    const upgrading = upgrades.begin(x, req, socket, head, done)
    sendWaiting()
    const earlier = ongoingOn(socket)
    if (earlier !== undefined && !isOut(earlier.res)) {
      // The earlier response first: otherwise the bytes of the two would mix.
      earlier.res.once('close', () => upgrading.proceed({ code: 'bad_request', detail: PIPELINED }))
      return
    }
    const refused = malformed(req, headers) ?? checkUpgradable(req)
    refusalOf(x, refused).then(
      (refusal) => upgrading.proceed(refusal),
      (error) => upgrading.broken(error),
    )
  }

  async function refusalOf(x: Exchange, refused: Refusal | undefined): Promise<Refusal | undefined> {
    if (refused !== undefined) return refused
    for (const stage of handshakeStages) {
      // The client has left, and the exchange is recorded: nothing may be reserved for it any more.
      if (x.over) return undefined
      const refusal = await stage(x)
      if (refusal !== undefined) return refusing(x, refusal)
    }
    return undefined
  }

  function internal(x: Exchange, error: unknown): Refusal {
    return { code: 'internal', cause: report({ request_id: x.requestId }, error).split('\n', 1)[0]! }
  }

  function report(fields: object, error: unknown): string {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    deps.metrics.internalError()
    deps.log.error({ ...fields, error: text }, 'a request failed by a fault of the gateway')
    return text
  }

  /** Refuses, on the bare socket, what never became a request, and records it like any other. */
  function refuseUnparsed(
    socket: Duplex,
    code: ErrorCode,
    cause: string,
    { method = '-', target = '-', extra = [] as readonly string[], unread = false } = {},
  ): void {
    const x = new Exchange(
      deps.snapshot(),
      nextId(),
      method,
      target,
      NO_HEADERS,
      peerOf(socket),
      performance.now(),
    )
    refuseSocket(socket, x, { code, cause, headers: extra }, unread)
    done(x)
  }

  const { server: settings } = deps.snapshot().config
  const http2 = settings.http2.enabled
    ? createHttp2({
        settings,
        counts: deps.http2 ?? createHttp2Counts(),
        draining: deps.draining,
        accept: acceptStream,
      })
    : undefined
  const plain = createPlainConnections({
    settings,
    accept,
    silent(socket) {
      // With two protocols, it is not known in which one to tell the client.
      if (http2 === undefined) refuseUnparsed(socket, 'request_timeout', 'no request in time')
      else socket.destroy()
    },
  })
  /**
   * Hands a connection to its protocol. An unencrypted one takes the plain path (`server.plain_path`) until its bytes show
   * otherwise.
   */
  function speak(socket: Socket, http1: (socket: Socket) => void): void {
    const other = http2 === undefined ? http1 : (unread: Socket) => http2.speak(unread, http1)
    if (settings.plain_path && securedOf(socket) === undefined) plain.take(socket, other, http1)
    else other(socket)
  }
  return createServer(
    {
      snapshot: deps.snapshot,
      entrance: deps.entrance ?? { counts: createConnectionCounts(), log: QUIET },
      speak,
    },
    {
      accept,
      acceptUpgrade,
      acceptConnect(req, socket) {
        const asked = { method: 'CONNECT', target: req.url ?? '', extra: ['Allow', ''] }
        refuseUnparsed(socket, 'method_not_allowed', 'CONNECT', asked)
      },
      parserFailed: parserGaveUp,
      leave() {
        http2?.leave()
        plain.leave()
        return upgrades.leave()
      },
      closeAll() {
        http2?.destroy()
        plain.closeAll()
      },
    },
  )
}

/** Releases the place of an exchange that never reached an upstream: nothing else has reported its end. */
function leaveGuard(x: Exchange): void {
  x.pass?.left(0, 0)
}

/** How long changes are gathered, in ms: there may be many tunnels to check, and many bans in a flood. */
const GATHER_MS = 200

/** Ends the tunnels whose client is banned, or whose API key is revoked. A tunnel notices by itself when its time is over. */
function turnAway(
  { bans, keyring }: Pick<GatewayDeps, 'bans' | 'keyring'>,
  upgrades: Pick<Upgrades, 'turnAway'>,
): void {
  let awaited = false
  const soon = (): void => {
    if (awaited) return
    awaited = true
    const look = (): void => {
      awaited = false
      upgrades.turnAway()
    }
    setTimeout(look, GATHER_MS).unref()
  }
  bans?.onBanned(soon)
  keyring?.onChange(soon)
}

const QUIET = { warn() {}, debug() {} }

const PIPELINED = 'An upgrade may not be sent before the response to the request in front of it has come.'

/** Refuses an upgrade over HTTP/1.0, which has none (RFC 9110 §7.8). */
function checkUpgradable(req: IncomingMessage): Refusal | undefined {
  return req.httpVersionMinor === 0 ? { code: 'upgrade_not_supported' } : undefined
}

function requestIds(): () => string {
  const prefix = `${randomBytes(6).toString('hex')}-`
  let count = 0
  return () => prefix + (count++).toString(36)
}
