import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { createRespReader, readReply } from '../../../src/limiter/redis/resp-reader.js'
import { bulks, commandReader } from './redis-commands.js'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export interface EvilRedis {
  readonly port: number
  /** Writes a piece on one connection up to `most` times, as fast as it is taken. @returns bytes that were taken */
  pour(piece: Buffer, most: number): Promise<number>
  /** Returns the number of open connections. */
  open(): number
  /** Returns how often a command came, by its first word in lower case. */
  asked(name: string): number
  /** Returns its reply to a command, as latin1. On undefined, or without this function, Redis replies. */
  answers: ((command: readonly string[]) => string | undefined) | undefined
  /** Sends bytes that nobody asked for, on each connection. */
  inject(bytes: string | Buffer): void
  /** Ends all connections. */
  cut(): void
}

/**
 * Starts a proxy of a real Redis that can be told to lie. It is also a Cluster of one node, and a Sentinel that names itself as the
 * primary.
 *
 * @param target port of the real Redis
 * @param tls certificate in PEM: it speaks TLS
 */
export async function evilRedis(
  t: Cleanup,
  target: number,
  tls?: { readonly cert: string; readonly key: string },
): Promise<EvilRedis> {
  const sockets = new Set<Socket>()
  const asked = new Map<string, number>()
  const evil: EvilRedis = {
    port: 0,
    async pour(piece, most) {
      const [socket] = sockets
      let taken = 0
      const write = () => new Promise<boolean>((done) => socket!.write(piece, (error) => done(error == null)))
      while (taken < most * piece.length && (await write())) taken += piece.length
      return taken
    },
    open: () => sockets.size,
    asked: (name) => asked.get(name) ?? 0,
    answers: undefined,
    inject(bytes) {
      for (const socket of sockets) if (socket.writable) socket.write(bytes)
    },
    cut() {
      for (const socket of sockets) socket.destroy()
    },
  }

  function usual([name = '', sub = '']: readonly string[]): string | undefined {
    const self = `$9\r\n127.0.0.1\r\n`
    switch (`${name} ${sub}`.toLowerCase()) {
      case 'cluster slots':
        return `*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n${self}:${evil.port}\r\n$1\r\nx\r\n`
      case 'cluster info':
        return '$16\r\ncluster_state:ok\r\n'
      case 'sentinel get-master-addr-by-name':
        return bulks(['127.0.0.1', String(evil.port)])
      case 'sentinel sentinels':
        return '*0\r\n'
    }
    return undefined
  }

  function onConnection(near: Socket): void {
    const far = connect(target, '127.0.0.1')
    const read = commandReader()
    const reader = createRespReader(Number.MAX_SAFE_INTEGER)
    /** Commands without a reply, in order: undefined for those that Redis replies to. */
    const waiting: (string | undefined)[] = []
    let subscribes = false
    const answerThoseBefore = () => {
      while (typeof waiting[0] === 'string') near.write(waiting.shift()!, 'latin1')
    }
    sockets.add(near)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.setNoDelay()
      from.on('error', () => {})
      from.on('close', () => to.destroy())
    }
    near.on('close', () => sockets.delete(near))
    near.on('data', (data) => {
      for (const command of read(data)) {
        const name = command[0]!.toLowerCase()
        asked.set(name, evil.asked(name) + 1)
        subscribes ||= name === 'subscribe'
        const answer = evil.answers?.(command) ?? usual(command)
        waiting.push(answer)
        if (answer === undefined) far.write(bulks(command), 'latin1')
        else if (subscribes) near.write(answer, 'latin1')
        else answerThoseBefore()
      }
    })
    far.on('data', (data) => {
      // Messages are no replies, and a command has several confirmations.
      let at = subscribes ? data.length : 0
      if (subscribes) near.write(data)
      while (at < data.length) {
        const end = readReply(reader, data, at)
        near.write(data.subarray(at, end < 0 ? data.length : end))
        at = end < 0 ? data.length : end
        if (end < 0) continue
        waiting.shift()
        answerThoseBefore()
      }
    })
  }

  const server = tls === undefined ? createServer(onConnection) : createTlsServer(tls, onConnection)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  Object.assign(evil, { port: (server.address() as AddressInfo).port })
  t.teardown(() => {
    evil.cut()
    server.close()
  })
  return evil
}
