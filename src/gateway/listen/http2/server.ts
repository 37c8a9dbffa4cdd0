import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { Http2Connection, type Http2Counts, type Http2Listening, PREFACE } from './connection.js'

export function createHttp2Counts(): Http2Counts {
  return { open: 0, closed: { resets: 0, pings: 0, settings: 0, protocol: 0 } }
}

/** The HTTP/2 connections of a port that also serves HTTP/1.1. */
export type Http2Connections = ReturnType<typeof createHttp2>

export function createHttp2(listening: Http2Listening) {
  const { settings, counts } = listening
  const open = new Set<Http2Connection>()
  /** Plain-text connections that have not sent a byte. */
  const silent = new Set<Socket>()

  function take(socket: Socket): void {
    open.add(new Http2Connection(socket, listening, closed))
    counts.open++
  }

  function closed(connection: Http2Connection): void {
    open.delete(connection)
    counts.open--
  }

  return {
    /** Takes a connection that begins with the HTTP/2 preface or negotiated `h2`; hands any other to `http1`. */
    speak(socket: Socket, http1: (socket: Socket) => void): void {
      const { alpnProtocol } = socket as TLSSocket
      if (alpnProtocol === 'h2') take(socket)
      else if (alpnProtocol !== undefined) http1(socket)
      else sniff(socket, silent, settings.header_timeout, take, http1)
    },
    /** Sends GOAWAY to every client and lets open streams finish. */
    leave(): void {
      for (const connection of open) connection.leave()
      for (const socket of silent) socket.destroy()
    },
    destroy(): void {
      for (const { socket } of open) socket.destroy()
    },
  }
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
  const timer = setTimeout(gone, patience).unref()
  silent.add(socket)
  socket.on('readable', look)
  socket.on('end', gone)
  socket.on('close', done)
  socket.on('error', gone)
}
