import { Cluster, type ClusterNode, Redis } from 'ioredis'
import { nodeConnector, type OnBroken } from './connectors.js'

/** `MOVED 3999 127.0.0.1:6381`; the host may be missing or an IPv6 address. */
const REDIRECTION = /^(?:MOVED|ASK) \d{1,5} \S*:\d{1,5}$/

type ClusterSettings = NonNullable<ConstructorParameters<typeof Cluster<'legacy'>>[1]>

/**
 * A Cluster client that sends a command on only where the server has said that it did not run it, and at once: MOVED
 * and ASK, one time. What ioredis would do besides is left out.
 */
export class StoreCluster extends Cluster {
  readonly #onBroken: OnBroken

  constructor(nodes: ClusterNode[], onBroken: OnBroken, options: ClusterSettings) {
    super(nodes, options)
    this.#onBroken = onBroken
  }

  /** Opens a connection for messages, to any node: ioredis would open one without our connector. */
  openSubscriber(): Redis {
    const { redisOptions, clusterNodeRetryStrategy } = this.options
    return new Redis({
      ...(redisOptions as Omit<typeof redisOptions, 'replyMapping'>),
      retryStrategy: clusterNodeRetryStrategy,
      enableOfflineQueue: false,
      autoResubscribe: false,
      Connector: nodeConnector(this, this.#onBroken),
    })
  }

  /**
   * The queue is on only for a node that a redirection has just named, and that is being connected to: without, all
   * but the first of what is sent there would fail. While no node is known nothing waits.
   */
  override sendCommand(...args: Parameters<Cluster['sendCommand']>): unknown {
    const [command] = args
    if (this.status === 'ready' || command.name === 'cluster') return super.sendCommand(...args)
    command.reject(new Error("Cluster isn't ready"))
    return command.promise
  }

  /** ioredis would send the first to any node, and call the second one redirection too many. */
  override handleError(...args: Parameters<Cluster['handleError']>): void {
    const [error, , handlers] = args
    const { message } = error
    // ioredis takes a redirection apart without looking, and what it throws here ends the process.
    const isWrong = /^(MOVED|ASK)\b/.test(message) && !REDIRECTION.test(message)
    if (isWrong || /^(TRYAGAIN|NOSCRIPT)/.test(message)) handlers.defaults()
    else super.handleError(...args)
  }

  override disconnect(reconnect = false): void {
    const waiting = this.nodes().filter(({ status }) => status === 'reconnecting')
    super.disconnect(reconnect)
    // ioredis waits for the end of every node, and tells of none for one that was about to reconnect.
    for (const node of waiting) node.emit('end')
    // An answer that comes after makes ioredis ask for the slots again and again, of no server, and a process would not end by itself.
    if (!reconnect) this.refreshSlotsCache = () => {}
  }
}
