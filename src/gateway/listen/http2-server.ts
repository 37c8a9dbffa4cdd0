import {
  constants,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2'
import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { TLSSocket } from 'node:tls'
import type { Config } from '../../config/schema/schema.js'
import { closeLater } from '../../upstream/http2/faults.js'
import { wasCut } from './http2-stream.js'

/** Why the gateway closed an abusive connection. */
export type Abuse = 'resets' | 'pings' | 'settings' | 'protocol'

/** Counts of HTTP/2 connections for the metrics. They are plain numbers: the metrics read them whenever they like. */
export interface Http2Counts {
  open: number
  readonly closed: Record<Abuse, number>
}

export function createHttp2Counts(): Http2Counts {
  return { open: 0, closed: { resets: 0, pings: 0, settings: 0, protocol: 0 } }
}

export interface Http2Listening {
  readonly settings: Config['server']
  readonly counts: Http2Counts
  readonly draining: () => boolean
  /**
   * @param raw name, value, … with the pseudo-header fields
   * @param bodiless nothing follows the header
   */
  accept(stream: ServerHttp2Stream, socket: Socket, raw: readonly string[], bodiless: boolean): void
}

/** The HTTP/2 sessions of a port that also serves HTTP/1.1. */
export interface Http2Sessions {
  /** Takes a connection that begins with the HTTP/2 preface or negotiated `h2`; hands any other to `http1`. */
  speak(socket: Socket, http1: (socket: Socket) => void): void
  /** Sends GOAWAY to every client and lets open streams finish. */
  leave(): void
  destroy(): void
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
/** Pings and SETTINGS that a connection may send at once, and per second. Real clients send one every few seconds at most. */
const CONTROL_BURST = 100
const CONTROL_RATE = 10
/**
 * How long the client has to take the remaining bytes and to close, in ms: from the end of the last stream, or from the
 * GOAWAY if there is none.
 */
const GOODBYE_MS = 1_000
const STREAM_WINDOW = 262_144
/**
 * Header pairs allowed beyond `max_headers`: the four pseudo-header fields, and some more that show that there are too
 * many.
 */
const SPARE_PAIRS = 8

export function createHttp2(listening: Http2Listening): Http2Sessions {
  const { settings, counts, draining } = listening
  const { http2, keep_alive: idleMs, header_timeout: patience } = settings
  const sessions = new Set<Session>()
  /** Plain-text connections that have not sent a byte. */
  const silent = new Set<Socket>()
  const server = openServer(settings)
  /** The socket of the session that is being created. The session itself exposes only a proxy of its socket. */
  let taking: Socket | undefined

  server.on('session', (one: ServerHttp2Session) => {
    closeLater(one)
    const session = new Session(one, taking!)
    sessions.add(session)
    counts.open++
    one.once('close', () => {
      sessions.delete(session)
      session.closed()
      counts.open--
    })
  })
  server.on('sessionError', () => {})

  /** The state of one connection. */
  class Session {
    streams = 0
    /** The client has sent a request. */
    #asked = false
    #leaving = false
    #silence: NodeJS.Timeout
    #abused = false
    readonly #resets = bucket(http2.reset_burst, http2.reset_rate)
    readonly #pings = bucket(CONTROL_BURST, CONTROL_RATE)
    readonly #settings = bucket(CONTROL_BURST, CONTROL_RATE)

    constructor(
      readonly session: ServerHttp2Session,
      readonly socket: Socket,
    ) {
      // Node's own timer would keep a destroyed session in memory until it fires.
      this.#silence = setTimeout(this.#onSilence, patience)
      this.#silence.unref()
      session.on('stream', this.#onStream)
      session.on('error', this.#onError)
      session.on('ping', () => {
        if (!this.#pings()) this.#close('pings')
      })
      session.on('remoteSettings', () => {
        if (!this.#settings()) this.#close('settings')
      })
    }

    #onStream = (stream: ServerHttp2Stream, _: unknown, flags: number, raw: unknown): void => {
      this.streams++
      if (!this.#asked) {
        this.#asked = true
        clearTimeout(this.#silence)
        this.#silence = setTimeout(this.#onSilence, idleMs)
        this.#silence.unref()
      }
      stream.once('close', () => {
        if (--this.streams === 0 && !this.session.destroyed) this.#silence.refresh()
        // The client reset the stream, or sent something that caused a reset: either way the gateway began work for
        // nothing. A stream that the gateway cut because an upstream failed is not counted: it is not the fault of the
        // client's other streams.
        if (stream.rstCode !== constants.NGHTTP2_NO_ERROR && !wasCut(stream) && !this.#resets())
          this.#close('resets')
      })
      // Waits for the first request: a client that is told to leave at once may never get to send one.
      if (draining()) this.leave()
      const bodiless = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
      listening.accept(stream, this.socket, raw as readonly string[], bodiless)
    }

    #onSilence = (): void => {
      if (this.streams === 0) this.#end()
    }

    /**
     * Closes the session, with a time limit. Half a header, or bytes that the client does not take, would keep a closed
     * session open for ever.
     */
    #end(): void {
      if (!this.session.closed && !this.session.destroyed) this.session.close()
      clearTimeout(this.#silence)
      this.#silence = setTimeout(() => {
        // Destroys the socket: a closed session waits until the client has taken everything and closed, too.
        if (this.streams === 0) this.socket.destroy()
      }, GOODBYE_MS)
      this.#silence.unref()
    }

    closed(): void {
      clearTimeout(this.#silence)
    }

    /** Counts an error from nghttp2: a frame that breaks the protocol, or too many of one kind. */
    #onError = (): void => {
      if (!this.#abused && !this.session.closed) counts.closed.protocol++
      this.#abused = true
    }

    #close(why: Abuse): void {
      if (this.#abused || this.session.destroyed) return
      this.#abused = true
      counts.closed[why]++
      // This event comes while Node still reads what the client sent. GOAWAY and close have to wait for that
      // (`upstream/http2/faults.ts`).
      setImmediate(() => {
        if (this.session.destroyed) return
        this.session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM)
        this.session.destroy()
      })
    }

    /**
     * Sends one GOAWAY, which names the last stream that the gateway accepts. Requests that the client sent after that one
     * were not begun: the client may repeat them, whatever they are (RFC 9113 §6.8, §8.7).
     * There is no first GOAWAY with 2^31-1, which would leave time for those requests, because it would be untrue: from
     * then on nghttp2 ignores new streams, and Node gives no access to its `submit_shutdown_notice`.
     */
    leave(): void {
      if (this.#leaving) return
      this.#leaving = true
      this.#end()
    }
  }

  function take(socket: Socket): void {
    // The HTTP/1.1 server lets clients end their side and wait. An HTTP/2 client that ends its side has gone: without its
    // frames no response of any size can be sent.
    socket.allowHalfOpen = false
    taking = socket
    server.emit('connection', socket)
    taking = undefined
  }

  return {
    speak(socket, http1) {
      const { alpnProtocol } = socket as TLSSocket
      if (alpnProtocol === 'h2') take(socket)
      else if (alpnProtocol !== undefined) http1(socket)
      else sniff(socket, silent, patience, take, http1)
    },
    leave() {
      for (const session of sessions) session.leave()
      for (const socket of silent) socket.destroy()
    },
    destroy() {
      for (const { socket } of sessions) socket.destroy()
    },
  }
}

function openServer({ http2, max_headers, max_header_size }: Config['server']): Http2Server {
  const options: ServerOptions & { streamResetBurst: number; streamResetRate: number } = {
    settings: {
      enablePush: false,
      initialWindowSize: STREAM_WINDOW,
      maxConcurrentStreams: http2.max_concurrent_streams,
      maxHeaderListSize: max_header_size,
    },
    maxSessionMemory: Math.ceil(http2.max_session_memory / 1024 ** 2),
    maxHeaderListPairs: max_headers + SPARE_PAIRS,
    maxOutstandingPings: 10,
    maxSettings: 32,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    // Supported by Node from 22.10 on.
    streamResetBurst: http2.reset_burst,
    streamResetRate: http2.reset_rate,
  }
  return createServer(options)
}

/**
 * Detects the protocol of a plain-text connection from its first bytes, and puts them back. Closes a connection that sends
 * nothing in time, as Node does for HTTP/1.1.
 */
function sniff(
  socket: Socket,
  silent: Set<Socket>,
  patience: number,
  http2: (socket: Socket) => void,
  http1: (socket: Socket) => void,
): void {
  let seen: Buffer = Buffer.alloc(0)
  const look = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    silent.delete(socket)
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk])
    const length = Math.min(seen.length, PREFACE.length)
    const fits = seen.compare(PREFACE, 0, length, 0, length) === 0
    if (fits && length < PREFACE.length) return
    done()
    socket.unshift(seen)
    if (fits) http2(socket)
    else http1(socket)
  }
  const gone = (): void => {
    done()
    socket.destroy()
  }
  const done = (): void => {
    clearTimeout(timer)
    silent.delete(socket)
    socket.off('readable', look)
    socket.off('end', gone)
    socket.off('close', done)
    socket.off('error', gone)
  }
  const timer = setTimeout(gone, patience)
  timer.unref()
  silent.add(socket)
  socket.on('readable', look)
  socket.on('end', gone)
  socket.on('close', done)
  socket.on('error', gone)
}

/** Creates a token bucket. Each call takes one token and returns false when none is left. */
function bucket(burst: number, rate: number): () => boolean {
  let left = burst
  let at = performance.now()
  return () => {
    const now = performance.now()
    left = Math.min(burst, left + ((now - at) * rate) / 1000)
    at = now
    if (left < 1) return false
    left--
    return true
  }
}
