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

/** Why a connection was closed that asked for more than is asked in good faith. */
export type Abuse = 'resets' | 'pings' | 'settings' | 'protocol'

/** What becomes of the connections over HTTP/2, for the metrics. Plain numbers: whoever reads them does so in his own time. */
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
  /** @param raw name, value, … with the pseudo-header fields; `bodiless`: nothing follows them */
  accept(stream: ServerHttp2Stream, socket: Socket, raw: readonly string[], bodiless: boolean): void
}

/** The sessions of a port on which HTTP/1.1 is spoken, too. */
export interface Http2Sessions {
  /** Takes a connection that has begun with the preface, or has agreed on `h2`; or hands it on. */
  speak(socket: Socket, http1: (socket: Socket) => void): void
  /** Asks every client to leave, and lets what is under way go through. */
  leave(): void
  destroy(): void
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
/** Pings and SETTINGS that a connection may send at once, and each second: clients ask every few seconds at most. */
const CONTROL_BURST = 100
const CONTROL_RATE = 10
/** From the end of the last stream, or from the GOAWAY where there is none, for the client to take what is left and to close. */
const GOODBYE_MS = 1_000
const STREAM_WINDOW = 262_144
/** Beside the fields that are counted: the four pseudo-header fields, and some that show that there are too many. */
const SPARE_PAIRS = 8

export function createHttp2(listening: Http2Listening): Http2Sessions {
  const { settings, counts, draining } = listening
  const { http2, keep_alive: idleMs, header_timeout: patience } = settings
  const sessions = new Set<Session>()
  /** In plain text, and not a byte yet. */
  const silent = new Set<Socket>()
  const server = openServer(settings)
  /** Whose session is being made: itself it gives away no more than a likeness of its socket. */
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

  /** What is known of one connection. */
  class Session {
    streams = 0
    /** There has been a request. */
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
      // Not Node's own timer: that of a session that was destroyed keeps it until it fires.
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
        // By the client, or because of what it has sent: either way work was begun for nothing. What the gateway itself
        // has cut, as an upstream failed, is no fault of the client's other streams.
        if (stream.rstCode !== constants.NGHTTP2_NO_ERROR && !wasCut(stream) && !this.#resets())
          this.#close('resets')
      })
      // Not before its first request: a client that is told to leave at once may not get to send any.
      if (draining()) this.leave()
      const bodiless = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
      listening.accept(stream, this.socket, raw as readonly string[], bodiless)
    }

    #onSilence = (): void => {
      if (this.streams === 0) this.#end()
    }

    /** Half a header, or bytes that the client does not take, would keep a session for ever that is only closed. */
    #end(): void {
      if (!this.session.closed && !this.session.destroyed) this.session.close()
      clearTimeout(this.#silence)
      this.#silence = setTimeout(() => {
        // Not the session: one that was closed before waits until the client has taken all, and has closed, too.
        if (this.streams === 0) this.socket.destroy()
      }, GOODBYE_MS)
      this.#silence.unref()
    }

    closed(): void {
      clearTimeout(this.#silence)
    }

    /** Of nghttp2: frames that break the protocol, or too many of one kind. */
    #onError = (): void => {
      if (!this.#abused && !this.session.closed) counts.closed.protocol++
      this.#abused = true
    }

    #close(why: Abuse): void {
      if (this.#abused || this.session.destroyed) return
      this.#abused = true
      counts.closed[why]++
      // Events come while Node still reads what the client has sent: a GOAWAY waits for that, as closing does (`upstream/http2/faults.ts`).
      setImmediate(() => {
        if (this.session.destroyed) return
        this.session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM)
        this.session.destroy()
      })
    }

    /**
     * One GOAWAY, which names the last stream that is taken. What the client has sent behind that before it knew was not begun,
     * and may be sent again whatever it is (RFC 9113 §6.8, §8.7). A first one with 2^31-1, which leaves time for it, would say
     * more than is true: from then on nghttp2 ignores new streams, and Node gives no access to its `submit_shutdown_notice`.
     */
    leave(): void {
      if (this.#leaving) return
      this.#leaving = true
      this.#end()
    }
  }

  function take(socket: Socket): void {
    // The server of HTTP/1.1 lets clients end their side and wait. Over HTTP/2 one that does has gone: without its frames
    // no answer of any size can be sent.
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
    // Known to Node from 22.10 on.
    streamResetBurst: http2.reset_burst,
    streamResetRate: http2.reset_rate,
  }
  return createServer(options)
}

/**
 * Which of the two a connection in plain text speaks: its first bytes tell, and are put back. One that says nothing in time is
 * closed, as Node does it for HTTP/1.1.
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

/** Takes one each time it is called; false when there is none left. */
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
