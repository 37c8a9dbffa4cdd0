import { connect as connectTcp, type OnReadOpts, Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import type { RedisServer } from '../../config/values/redis-address.js'
import { AbstractConnector, type Cluster, Redis, type RedisOptions } from './ioredis.js'
import { guardReplies, type ReplyGuard } from './reply-guard.js'

/**
 * Called for each connection that was ended because of what its server sent.
 *
 * @param server `host:port`
 */
export type OnBroken = (server: string, what: string) => void

type Connector = NonNullable<RedisOptions['Connector']>

interface Address {
  readonly host: string
  readonly port: number
}

/** Redis server to which connections can be opened. */
export interface Server {
  /**
   * Opens a socket to it.
   *
   * @param onread buffer that the socket reads into. Default: the socket is a stream.
   * @throws Error if it has no such port: a redirection may name any
   */
  open(onread?: OnReadOpts): Socket
  /** Reports that it broke the protocol on such a socket. */
  broke(what: string): void
}

const servers = new WeakMap<object, Server>()

/** Returns the server of a socket that a connector has opened. */
export function serverOf(socket: object): Server | undefined {
  return servers.get(socket)
}

/** Returns the server at an address. */
export function serverAt(
  { host, port }: Address,
  tls: ConnectionOptions | undefined,
  onBroken: OnBroken,
): Server {
  return {
    open(onread) {
      // Node would throw, and leave a handle open.
      if (!(port > 0 && port < 65_536)) throw new Error(`${host} has no port ${port}`)
      const to = onread === undefined ? { host, port } : { host, port, onread }
      return tls === undefined ? connectTcp(to) : connectTls({ ...to, ...tls })
    },
    broke: (what) => onBroken(`${host}:${port}`, what),
  }
}

/** Opens sockets for ioredis that pass only what ioredis can handle. */
abstract class GuardedConnector extends AbstractConnector {
  readonly #onBroken: OnBroken
  #guard: ReplyGuard | undefined

  constructor(options: RedisOptions, onBroken: OnBroken) {
    super(options.disconnectTimeout ?? 0)
    this.#onBroken = onBroken
  }

  protected open(address: Address, tls: ConnectionOptions | undefined): Socket {
    const server = serverAt(address, tls, this.#onBroken)
    const socket = server.open()
    servers.set(socket, server)
    this.stream = socket
    this.#guard = guardReplies(socket, server.broke)
    socket.once('error', (error) => {
      this.firstError = error
    })
    // A refused certificate may be followed by an alert of the server, when nobody listens any more.
    socket.on('error', () => {})
    return socket
  }

  /**
   * Reports a connection that could not be made. ioredis logs the reason and retries; it would not survive a rejection.
   */
  protected failed(error: unknown): Socket {
    this.firstError = error as Error
    this.stream = new Socket()
    return this.stream.destroy()
  }

  /**
   * Closes the connection. ioredis does so while it handles a bad or READONLY reply. Later replies would meet a command
   * queue that is not theirs any more.
   */
  override disconnect(): void {
    super.disconnect()
    if (this.#guard?.delivers() === true) this.stream.destroy()
  }

  override async connect(): Promise<Socket> {
    this.connecting = true
    // ioredis may be closed in the turn in which it was opened.
    await undefined
    const socket = this.connecting
      ? await this.find().catch((error: unknown) => this.failed(error))
      : undefined
    if (socket === undefined || !this.connecting) {
      socket?.destroy()
      throw new Error('Connection is closed.')
    }
    return socket
  }

  /** Opens a socket. A rejection is reported, and another attempt follows. */
  protected abstract find(): Promise<Socket>
}

/** Connects to the server in the options of a client. */
export function directConnector(onBroken: OnBroken): Connector {
  return class extends GuardedConnector {
    readonly #options: RedisOptions

    constructor(options: unknown) {
      super(options as RedisOptions, onBroken)
      this.#options = options as RedisOptions
    }

    protected override async find(): Promise<Socket> {
      const { host = '127.0.0.1', port = 6379, tls } = this.#options
      return this.open({ host, port }, tls)
    }
  }
}

/** Connects to any node of a Cluster: messages reach all of them. */
export function nodeConnector(cluster: Cluster, onBroken: OnBroken): Connector {
  return class extends GuardedConnector {
    readonly #tls: ConnectionOptions | undefined
    #at = ''

    constructor(options: unknown) {
      super(options as RedisOptions, onBroken)
      this.#tls = (options as RedisOptions).tls
      // A node that has left the Cluster gets no messages any more.
      cluster.on('-node', ({ options: { host, port } }: Redis) => {
        if (this.#at !== `${host}:${port}`) return
        this.#at = ''
        this.disconnect()
      })
    }

    protected override async find(): Promise<Socket> {
      const nodes = cluster.nodes()
      const node = nodes[Math.floor(Math.random() * nodes.length)]
      if (node === undefined) throw new Error('no node of the Cluster is known')
      const { host = '127.0.0.1', port = 6379 } = node.options
      this.#at = `${host}:${port}`
      return this.open({ host, port }, this.#tls)
    }
  }
}

export interface Sentinels {
  readonly hosts: readonly RedisServer[]
  /** Name of the primary in the Sentinels. */
  readonly primary: string
  /** Options of a connection to a Sentinel. */
  readonly options: Omit<RedisOptions, 'replyMapping'>
}

/** Maximum number of Sentinels learned from others. Their own lists are not bounded. */
const MOST_SENTINELS = 20

/** Connects to the primary that the first answering Sentinel names. */
export function sentinelConnector({ hosts, primary, options }: Sentinels, onBroken: OnBroken): Connector {
  return class extends GuardedConnector {
    readonly #tls: ConnectionOptions | undefined
    /** Known Sentinels. The first is asked next. */
    #known: Address[] = [...hosts]

    constructor(clientOptions: unknown) {
      super(clientOptions as RedisOptions, onBroken)
      this.#tls = (clientOptions as RedisOptions).tls
    }

    /**
     * Returns true if the server has the role that the Sentinel reported. Reads the reply to `INFO`, or what came in
     * its place.
     */
    override check(info: { role?: unknown } | null): boolean {
      const role = typeof info === 'object' ? info?.role : undefined
      if (role === undefined || role === 'master') return true
      this.#askAnother()
      return false
    }

    #askAnother(): void {
      this.#known.push(this.#known.shift()!)
    }

    protected override async find(): Promise<Socket> {
      let problem: unknown
      for (let i = this.#known.length; i > 0 && this.connecting; i--) {
        try {
          return this.open(await this.#ask(this.#known[0]!), this.#tls)
        } catch (error) {
          problem = error
          this.#askAnother()
        }
      }
      throw new Error(
        `no Sentinel knows the address of the primary: ${(problem as Error | undefined)?.message}`,
      )
    }

    async #ask({ host, port }: Address): Promise<Address> {
      const client = new Redis({ ...options, host, port, Connector: directConnector(onBroken) })
      let problem: Error | undefined
      client.on('error', (error: Error) => {
        problem ??= error
      })
      try {
        const [named, others] = await Promise.all([
          client.call('sentinel', 'get-master-addr-by-name', primary),
          client.call('sentinel', 'sentinels', primary),
        ])
        this.#learn(others)
        const address = Array.isArray(named) ? addressOf(named[0], named[1]) : undefined
        if (address === undefined) throw new Error(`${host}:${port} knows no primary ${primary}`)
        return address
      } catch (error) {
        throw problem ?? error
      } finally {
        client.disconnect()
      }
    }

    /**
     * Adds Sentinels from a reply.
     *
     * @param others list of names and values for each Sentinel
     */
    #learn(others: unknown): void {
      if (!Array.isArray(others)) return
      for (const pairs of others as unknown[]) {
        if (!Array.isArray(pairs)) continue
        const saysOf = (name: string): unknown => pairs[pairs.indexOf(name) + 1]
        const address = addressOf(saysOf('ip'), saysOf('port'))
        const isKnown = this.#known.some(({ host, port }) => host === address?.host && port === address.port)
        if (address === undefined || isKnown || this.#known.length >= MOST_SENTINELS) continue
        if (!String(saysOf('flags')).includes('disconnected')) this.#known.push(address)
      }
    }
  }
}

function addressOf(host: unknown, port: unknown): Address | undefined {
  const number = Number(port)
  const isAddress = typeof host === 'string' && host !== '' && number > 0 && number <= 65_535
  return isAddress ? { host, port: number } : undefined
}
