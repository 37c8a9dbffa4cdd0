import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { ErrorCode, Refusal } from '../errors.js'
import type { Tracing } from '../telemetry/traces/tracing.js'
import { type ApplicationCaller, Exchange } from './exchange/exchange.js'
import { checkVersion, NO_HEADERS, type RequestHeaders, readHeaders } from './exchange/headers.js'
import { securedOf } from './exchange/tls-info.js'
import { detailsOf, traceOfCaller } from './exchange/trace.js'
import { limitExtensions } from './listen/chunk-extensions.js'
import { currentExchange, isClosing, parserFailed } from './listen/connection.js'
import type { Http2Request, Http2Response } from './listen/http2/stream.js'
import { readNoMore } from './listen/pipeline.js'
import {
  type Lifecycle,
  outcomeOf,
  RequestLifecycle,
  type Stage,
  type StageOutcome,
} from './request-lifecycle.js'
import { peerOf, refuseSocket } from './respond/client-error.js'
import { isOut, sendWaiting } from './respond/write-batch.js'
import type { Upgrades } from './websocket/upgrades.js'

export interface AcceptDeps {
  /** Returns the snapshot in force. Each request calls it once, at its start. */
  readonly snapshot: () => Snapshot
  /** Left out: no request is recorded as a trace. */
  readonly tracing?: Tracing | undefined
  readonly way: Lifecycle
  readonly upgrades: Pick<Upgrades, 'begin'>
  /** The stages of an upgrade, in order. */
  readonly handshake: readonly Stage[]
  /** Counts and logs an error that was thrown, also one before there was an exchange. */
  readonly report: (fields: object, error: unknown) => void
}

const PIPELINED = 'Send an upgrade only after the response to the earlier request has arrived.'

/**
 * Creates the functions that take a request from whatever has read it, make its exchange, and start it on its way. No error
 * leaves them: where there is no exchange yet, only the connection or the stream ends.
 */
export function createAccept({ snapshot: inForce, tracing, way, upgrades, handshake, report }: AcceptDeps) {
  const nextId = requestIds()

  /** Handles an error before there was an exchange: only the connection, or the stream, can be ended. */
  function lost(socket: Duplex, error: unknown): void {
    report({}, error)
    socket.destroy()
  }

  /** Runs a step that a socket calls. */
  function guarded(socket: Duplex, step: () => void): void {
    try {
      step()
    } catch (error) {
      lost(socket, error)
    }
  }

  /** Reads the headers and makes the exchange. Also returns why the headers cannot be read, if so. */
  function exchangeOf(
    req: IncomingMessage,
    started: number,
  ): { x: Exchange; headers: RequestHeaders | Refusal } {
    const snapshot = inForce()
    const peer = peerOf(req.socket)
    const headers = readHeaders(req.rawHeaders, snapshot, snapshot.isTrustedProxy(peer))
    const known: RequestHeaders = 'code' in headers ? NO_HEADERS : headers
    const x = new Exchange(snapshot, known.requestId ?? nextId(), req.method!, req.url!, known, peer, started)
    x.secured = securedOf(req.socket)
    if (tracing !== undefined) x.trace = tracing.begin(x, req, detailsOf)
    else if (known.traceparent !== undefined) x.trace = traceOfCaller(known.traceparent)
    return { x, headers }
  }

  function malformed(req: IncomingMessage, headers: RequestHeaders | Refusal): Refusal | undefined {
    return 'code' in headers ? headers : checkVersion(req.httpVersionMajor, req.httpVersionMinor, headers)
  }

  function acceptRequest(
    req: IncomingMessage,
    res: ServerResponse,
    caller: ApplicationCaller | undefined,
  ): void {
    // An earlier request on this connection was answered with `Connection: close`: nobody reads later responses.
    if (isClosing(req.socket)) {
      readNoMore(req.socket)
      return
    }
    const { x, headers } = exchangeOf(req, performance.now())
    x.application = caller
    // The error waits until Node's parser has finished with its bytes: otherwise the parser would continue with a connection
    // that was answered.
    if (x.headers.chunked)
      limitExtensions(req, (error) => queueMicrotask(() => parserGaveUp(error, req.socket)))
    new RequestLifecycle(way, x, req, res).begin(malformed(req, headers))
  }

  function acceptUpgrade(
    req: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    caller: ApplicationCaller | undefined,
  ): void {
    if (isClosing(socket)) {
      // An earlier request was answered with `Connection: close`: nobody reads later responses.
      socket.on('error', () => {})
      return
    }
    const { x, headers } = exchangeOf(req, performance.now())
    x.application = caller
    const upgrading = upgrades.begin(x, req, socket, head, way.done)
    sendWaiting()
    const earlier = currentExchange(socket)
    if (earlier !== undefined && !isOut(earlier.res)) {
      // The earlier response first: otherwise the bytes of the two would mix.
      earlier.res.once('close', () => upgrading.proceed({ code: 'bad_request', detail: PIPELINED }))
      return
    }
    handshakeOutcome(x, malformed(req, headers) ?? checkUpgradable(req)).then(
      (outcome) => upgrading.proceed(outcome),
      (error) => upgrading.broken(error),
    )
  }

  async function handshakeOutcome(x: Exchange, refused: Refusal | undefined): Promise<StageOutcome> {
    if (refused !== undefined) return refused
    for (const stage of handshake) {
      // The client has left, and the exchange is recorded: nothing may be reserved for it any more.
      if (x.over) return undefined
      const outcome = await outcomeOf(stage, x)
      if (outcome !== undefined) return way.ending(x, outcome)
    }
    return undefined
  }

  function parserGaveUp(error: Error, socket: Duplex): void {
    guarded(socket, () =>
      parserFailed(error, socket, (code, unread) => refuseUnparsed(socket, code, error.message, { unread })),
    )
  }

  /** Refuses, on the bare socket, what never became a request, and records it like any other. */
  function refuseUnparsed(
    socket: Duplex,
    code: ErrorCode,
    cause: string,
    { method = '-', target = '-', extra = [] as readonly string[], unread = false } = {},
  ): void {
    const x = new Exchange(inForce(), nextId(), method, target, NO_HEADERS, peerOf(socket), performance.now())
    refuseSocket(socket, x, { code, cause, headers: extra }, unread)
    way.done(x)
  }

  return {
    /** @param caller as the application names it that has handed over the request */
    request(req: IncomingMessage, res: ServerResponse, caller?: ApplicationCaller): void {
      // Without `guarded`, which would make a function for each request.
      try {
        acceptRequest(req, res, caller)
      } catch (error) {
        lost(req.socket, error)
      }
    },
    /** Accepts an HTTP/2 stream, which goes the same way as a request. */
    stream(request: Http2Request, response: Http2Response, refused: Refusal | undefined): void {
      const req = request as unknown as IncomingMessage
      const res = response as unknown as ServerResponse
      guarded(req.socket, () => {
        const { x, headers } = exchangeOf(req, performance.now())
        new RequestLifecycle(way, x, req, res).begin(refused ?? ('code' in headers ? headers : undefined))
      })
    },
    /** Accepts an upgrade, which goes the same way, on a socket that Node's parser has let go of. */
    upgrade(req: IncomingMessage, socket: Duplex, head: Buffer, caller?: ApplicationCaller): void {
      guarded(socket, () => acceptUpgrade(req, socket, head, caller))
    },
    /** Refuses a CONNECT. */
    connect(req: IncomingMessage, socket: Duplex): void {
      const asked = { method: 'CONNECT', target: req.url ?? '', extra: ['Allow', ''] }
      refuseUnparsed(socket, 'method_not_allowed', 'CONNECT', asked)
    },
    parserGaveUp,
    refuseUnparsed,
  }
}

/** Refuses an upgrade over HTTP/1.0, which has none (RFC 9110 §7.8). */
function checkUpgradable(req: IncomingMessage): Refusal | undefined {
  return req.httpVersionMinor === 0 ? { code: 'upgrade_not_supported' } : undefined
}

function requestIds(): () => string {
  const prefix = `${randomBytes(6).toString('hex')}-`
  let count = 0
  return () => prefix + (count++).toString(36)
}
