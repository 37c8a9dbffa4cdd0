import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Config } from '../../../config/schema/schema.js'
import { securedOf } from '../../exchange/tls-info.js'
import { endGently } from '../../respond/client-error.js'
import { type Carrier, PlainResponse } from '../../respond/plain-response.js'
import { sendWaiting } from '../../respond/write-batch.js'
import { readPlainHead } from './head.js'
import { PlainRequest } from './request.js'

export interface PlainListening {
  readonly settings: Config['server']
  accept(req: IncomingMessage, res: ServerResponse): void
  /** Called when a connection has sent nothing in time. It is no longer read. */
  silent(socket: Socket): void
  /** Monotonic clock, in ms. */
  readonly clock?: () => number
}

/** The connections that have carried only plain requests so far. */
export type PlainConnections = ReturnType<typeof createPlainConnections>

/** How often the gateway checks for connections that have been silent for too long, in ms. */
const TICK_MS = 250

/** Bytes that a connection may send while its request is under way, before the gateway stops reading it. */
const HELD_BYTES = 8_192

/** Key on a socket: its connection, as long as that has carried only plain requests. */
const CONNECTION = Symbol('plain connection')
interface Served extends Socket {
  [CONNECTION]?: { take(chunk: Buffer): void; end(): void; closed(): void } | undefined
}

export function createPlainConnections({
  settings,
  accept,
  silent,
  clock = () => performance.now(),
}: PlainListening) {
  const { keep_alive: idleMs, header_timeout: patience } = settings
  const keepAlive = `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(idleMs / 1000)}\r\n`
  const open = new Set<PlainConnection>()
  let leaving = false
  /** Time of the latest tick. Reading it is free, and a timeout may be late by one tick. */
  let now = clock()
  let timer: NodeJS.Timeout | undefined

  function tick(): void {
    now = clock()
    // After a stall, bytes that came in meanwhile are read before any connection is judged to be late.
    setImmediate(() => {
      for (const connection of open) connection.check()
    })
    if (open.size > 0) return
    clearInterval(timer)
    timer = undefined
  }

  function start(): void {
    // There are no ticks while there is no connection.
    now = clock()
    timer = setInterval(tick, TICK_MS).unref()
  }

  class PlainConnection implements Carrier {
    readonly keepAlive = keepAlive
    readonly written: Carrier['written']
    /** The response that is under way. */
    #current: PlainResponse | undefined
    #asked = false
    #ending = false
    /** Bytes that arrived meanwhile. */
    #held: Buffer | undefined
    #since = now + TICK_MS

    constructor(
      readonly socket: Socket,
      readonly first: (socket: Socket) => void,
      readonly http1: (socket: Socket) => void,
    ) {
      this.written =
        securedOf(socket) === undefined
          ? undefined
          : (error) => {
              if (!error) this.#current?.out()
            }
      ;(socket as Served)[CONNECTION] = this
      socket.on('data', onData)
      socket.on('end', onEnd)
      socket.on('error', ignore)
      socket.on('close', onClose)
    }

    check(): void {
      if (this.#current !== undefined || this.#ending) return
      const silence = now - this.#since
      if (this.#asked) {
        if (silence > idleMs) this.socket.destroy()
      } else if (silence > patience) {
        this.#letGo()
        silent(this.socket)
      }
    }

    leave(): void {
      if (this.#asked && this.#current === undefined && !this.#ending) this.socket.destroy()
    }

    over(): void {
      const last = this.#current!
      this.#current = undefined
      this.#since = now + TICK_MS
      // An unread body must still be read to its end: a listener may wait for that.
      last.req.resume()
      if (this.socket.destroyed) return
      if (!last.shouldKeepAlive || leaving) this.#end(last.shouldKeepAlive)
      else if (this.#held !== undefined) process.nextTick(goOn, this)
    }

    /**
     * @param unannounced the client may have sent another request meanwhile; its system must not discard the response for
     *   that
     */
    #end(unannounced: boolean): void {
      this.#ending = true
      this.#held = undefined
      if (unannounced) endGently(this.socket)
      this.socket.destroySoon()
    }

    take(chunk: Buffer): void {
      if (this.#ending) return
      if (this.#current !== undefined) {
        this.#hold(chunk)
        return
      }
      const head = readPlainHead(chunk, settings)
      if (head === undefined) {
        this.#handOver(chunk)
        return
      }
      this.#asked = true
      const req = new PlainRequest(head, this.socket) as unknown as IncomingMessage
      const res = new PlainResponse(this, req)
      this.#current = res
      accept(req, res as unknown as ServerResponse)
    }

    #hold(chunk: Buffer): void {
      const held = this.#held
      this.#held = held === undefined ? chunk : Buffer.concat([held, chunk])
      if (this.#held.length > HELD_BYTES) this.socket.pause()
    }

    goOn(): void {
      const held = this.#held
      if (held === undefined || this.#current !== undefined || this.socket.destroyed) return
      this.#held = undefined
      this.take(held)
      if (this.socket.isPaused()) this.socket.resume()
    }

    #handOver(bytes: Buffer): void {
      const { socket } = this
      this.#letGo()
      socket.pause()
      socket.unshift(bytes)
      if (this.#asked) this.http1(socket)
      else this.first(socket)
      socket.resume()
    }

    #letGo(): void {
      const { socket } = this
      open.delete(this)
      ;(socket as Served)[CONNECTION] = undefined
      socket.off('data', onData)
      socket.off('end', onEnd)
      socket.off('error', ignore)
      socket.off('close', onClose)
    }

    /**
     * Ends the connection when the client ends its side, as Node's HTTP/1.1 server does. Responses that are ready are sent
     * first.
     */
    end(): void {
      sendWaiting()
      this.#ending = true
      this.socket.end()
    }

    closed(): void {
      open.delete(this)
      this.#current?.gone()
    }
  }

  function goOn(connection: PlainConnection): void {
    connection.goOn()
  }

  return {
    /**
     * Serves a connection until bytes arrive that are not a plain request.
     *
     * @param first takes the connection, with those bytes put back, if it had no request before
     * @param http1 takes it if it had requests before
     */
    take(socket: Socket, first: (socket: Socket) => void, http1: (socket: Socket) => void): void {
      if (timer === undefined) start()
      open.add(new PlainConnection(socket, first, http1))
    },
    /** Ends idle connections now, and the others as soon as they are idle. */
    leave(): void {
      leaving = true
      for (const connection of open) connection.leave()
    },
    closeAll(): void {
      for (const { socket } of open) socket.destroy()
    },
  }
}

// One function each for all connections, as most connections are idle.

function onData(this: Served, chunk: Buffer): void {
  this[CONNECTION]!.take(chunk)
}

function onEnd(this: Served): void {
  this[CONNECTION]!.end()
}

function onClose(this: Served): void {
  this[CONNECTION]!.closed()
}

/** Ignores an error, usually a reset: the connection closes next. */
function ignore(): void {}
