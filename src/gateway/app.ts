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
import { createExchange, type Exchange } from './exchange/exchange.js'
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
  /** The snapshot in force. Each request asks once, at its start. */
  readonly snapshot: () => Snapshot
  readonly limiter: Pick<Limiter, 'take' | 'settle' | 'preview'>
  readonly assignments: Pick<TierAssignments, 'get'>
  /** Who is asked for tiers that are not known by assignment or credential. Left out: nobody. */
  readonly plans?: Pick<Plans, 'sources'>
  readonly tokens: Pick<Tokens, 'verify' | 'unknownTier'>
  /** Boosts and overrides. Left out: there are none. */
  readonly amounts?: Pick<Amounts, 'policyFor'>
  /** Left out: no API key of the store is known. */
  readonly keyring?: Pick<Keyring, 'find' | 'used' | 'goodUntil' | 'onChange'> | undefined
  /** Left out: those that this gateway has seen, and nobody else knows. */
  readonly nonces?: SeenNonces
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  readonly metrics: {
    record(r: RequestRecord): void
    candidate(r: RequestRecord, decision: Decision): void
    mirrored(service: string, result: MirrorResult): void
    /** Something threw in an exchange, which ended for it. */
    internalError(): void
    shed(r: RequestRecord, reason: ShedReason): void
    edgeDenied(reason: EdgeReason): void
  }
  /** Who is limited now, and who costs most. */
  readonly top: { record(r: RequestRecord, now: number): void }
  /** Who is banned; left out, nobody is. */
  readonly bans?: Bans | undefined
  /** Makes a ban of this gateway's one of all. */
  readonly shareBan?: ((block: string, ban: Ban) => Promise<void>) | undefined
  /** Of limits and bans by address; ms of a clock that only goes forward. */
  readonly clock?: () => number
  /** Unix ms: of the credentials that tunnels were opened with. */
  readonly unixTime?: () => number
  /** Who holds how much of what is bounded. Left out: shares of its own, and no proxy is trusted. */
  readonly shares?: Shares
  readonly guards: Guards
  readonly overload: Pick<Overload, 'pressure' | 'sheds'>
  readonly decisions?: { keep(r: RequestRecord): void } | undefined
  /** By which credential each consumer came last; left out: nobody asks. */
  readonly seen?: Pick<LastSeen, 'saw'> | undefined
  readonly accessLog: { write(r: RequestRecord): void }
  readonly log: Record<'error' | 'warn', (fields: object, message: string) => void>
  /** Left out: no request is recorded as a trace. */
  readonly tracing?: Tracing | undefined
  /** What stands between the port and the first request; by default nothing but counting. */
  readonly entrance?: Entrance
  /** Written to when HTTP/2 is spoken. */
  readonly http2?: Http2Counts
  /** Keeps bodies that may have to be sent again. */
  readonly replays?: ReplayMemory
  /** While true every response asks the client to leave its connection. */
  readonly draining: () => boolean
}

/**
 * The way of a request, in order. A stage finds something and writes it into the exchange, or refuses.
 * What passes all of them is forwarded; `record` sees every outcome.
 */
function stagesOf(edge: EdgeStage, behind: readonly Stage<Refusal | undefined>[]): readonly Stage[] {
  return [edge, answerAsterisk, matchRoute, answerHere, ...behind]
}

/**
 * The way of an upgrade. What is no handshake of the route's is refused before anything is charged for it; and whether there is
 * a place for it is known before its quota is taken.
 */
function handshakeStagesOf(
  edge: EdgeStage,
  shares: Shares,
  behind: readonly Stage<Refusal | undefined>[],
): readonly Stage<Refusal | undefined>[] {
  return [edge, matchRoute, checkHandshake, ...behind.slice(0, -1), takeTunnel(shares), ...behind.slice(-1)]
}

/**
 * What both go through once their route is known, and it is not answered here. The very same stages: a nonce that one way has
 * seen is not to be good on the other.
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

/** What came with the credential, before the sources of tiers add to it. */
function noteSeen(seen: GatewayDeps['seen']): Stage<undefined> {
  return (x) => {
    seen?.saw(x)
    return undefined
  }
}

/** Where a credential takes time to check, whoever was banned meanwhile is not told that it was good. */
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

/** The data plane: an app that is not listening yet. */
export function buildGateway(deps: GatewayDeps): FastifyInstance {
  const { shares = createShares() } = deps
  const charges = createCharges(deps.limiter)
  const edge = checkEdge(deps)
  const banAfter =
    deps.bans && autoBan({ bans: deps.bans, share: deps.shareBan, clock: deps.clock, log: deps.log })
  const behind = stagesBehind(deps, charges)
  const handshakeStages = handshakeStagesOf(edge, shares, behind)
  const banOf = (address: string) => deps.bans && bannedBy(address, deps.snapshot(), deps.bans)
  const upgrades = upgrade({ ...deps, internal, stay: createStay({ ...deps, banOf }) })
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

  /** After every exchange, once. */
  function done(x: Exchange): void {
    attempt(x, charges.settle)
    attempt(x, leaveGuard)
    attempt(x, leaveTunnel)
    attempt(x, write)
  }

  /** Whoever is banned by now is not told whether another guess of theirs was good. */
  function refusing(x: Exchange, refusal: Refusal): Refusal {
    const { code } = refusal
    if (code !== 'unauthorized' && code !== 'quota_exceeded' && code !== 'address_limited') return refusal
    if (deps.bans === undefined || banAfter === undefined) return refusal
    const banned = denyBanned(x, deps.bans, deps.metrics)
    if (banned === undefined) banAfter(x, code)
    return banned ?? refusal
  }

  /** Whatever becomes of this, the next is done, too. */
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

  /** It threw before there was an exchange: what can be ended is the connection, or the stream. */
  function lost(socket: Duplex, error: unknown): void {
    report({}, error)
    socket.destroy()
  }

  function acceptRequest(req: IncomingMessage, res: ServerResponse): void {
    // Something before it on this connection was answered with `Connection: close`: nobody reads what follows.
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

  /** Not before Node's parser is through with what it has: it would go on with a connection that was answered. */
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

  /** A stream of HTTP/2 goes the same way. */
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
    const x = createExchange(
      snapshot,
      known.requestId ?? nextId(),
      req.method!,
      req.url!,
      known,
      peer,
      started,
    )
    x.secured = securedOf(req.socket)
    if (tracing !== undefined) x.trace = tracing.begin(x, req, detailsOf)
    else if (known.traceparent !== undefined) x.trace = traceOfCaller(known.traceparent)
    return x
  }

  /** An upgrade goes the same way, on a socket that Node's parser has let go of. */
  function acceptUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    try {
      beginUpgrade(req, socket, head)
    } catch (error) {
      lost(socket, error)
    }
  }

  function beginUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (isClosing(socket)) {
      // It was answered with `Connection: close`: nobody reads what follows.
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
      // The earlier response first: two would be written into each other.
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

  /** Refuses on the bare socket what never became a request, and records it like any other. */
  function refuseUnparsed(
    socket: Duplex,
    code: ErrorCode,
    cause: string,
    { method = '-', target = '-', extra = [] as readonly string[], unread = false } = {},
  ): void {
    const x = createExchange(
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
      // In which protocol a client would have to be told is not known where there are two.
      if (http2 === undefined) refuseUnparsed(socket, 'request_timeout', 'no request in time')
      else socket.destroy()
    },
  })
  /** What the port leaves open is plain until it says otherwise. */
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

/** Of what never got as far as an upstream nothing has been said yet. */
function leaveGuard(x: Exchange): void {
  x.pass?.left(0, 0)
}

/** Ms for which changes are gathered: there may be many tunnels to look at, and many bans in a flood. */
const GATHER_MS = 200

/** A tunnel ends when its client is banned, or the key that opened it is revoked; that its time is over, it sees itself. */
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

/** HTTP/1.0 knows no upgrade (RFC 9110 §7.8). */
function checkUpgradable(req: IncomingMessage): Refusal | undefined {
  return req.httpVersionMinor === 0 ? { code: 'upgrade_not_supported' } : undefined
}

function requestIds(): () => string {
  const prefix = `${randomBytes(6).toString('hex')}-`
  let count = 0
  return () => prefix + (count++).toString(36)
}
