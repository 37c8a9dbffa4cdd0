import { nodeConnector, type OnBroken } from './connectors.js'
import { Cluster, type ClusterNode, Redis } from './ioredis.js'

/** Matches `MOVED 3999 127.0.0.1:6381`. The host may be missing or an IPv6 address. */
const REDIRECTION = /^(?:MOVED|ASK) \d{1,5} \S*:\d{1,5}$/

type ClusterSettings = NonNullable<ConstructorParameters<typeof Cluster<'legacy'>>[1]>

/**
 * Cluster client that resends a command only if the server has said that it did not run it: once and at once, after
 * MOVED and ASK. Everything else that ioredis would do is left out.
 */
export class StoreCluster extends Cluster {
  readonly #onBroken: OnBroken

  constructor(nodes: ClusterNode[], onBroken: OnBroken, options: ClusterSettings) {
    super(nodes, options)
    // ioredis waits for no answer to ASKING, which fails where ASK names a node that is not there.
    this.on('+node', (node: Redis) => {
      const asking = node.asking.bind(node)
      node.asking = () => {
        const asked = asking()
        asked.catch(() => {})
        return asked
      }
    })
    this.#onBroken = onBroken
  }

  /** Opens a connection for messages to any node. ioredis would open one without our connector. */
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
   * Sends a command. The queue is only on for a node that a redirection has just named and that is being connected:
   * without it, all but the first command to the node would fail. While no node is known, nothing waits.
   */
  override sendCommand(...args: Parameters<Cluster['sendCommand']>): unknown {
    const [command] = args
    if (this.status === 'ready' || command.name === 'cluster') return super.sendCommand(...args)
    command.reject(new Error("Cluster isn't ready"))
    return command.promise
  }

  /**
   * Handles two errors that ioredis gets wrong: it would send the first to any node, and count the second as one
   * redirection too many.
   */
  override handleError(...args: Parameters<Cluster['handleError']>): void {
    const [error, , handlers] = args
    const { message } = error
    // ioredis parses a redirection without checking it, and an error thrown here ends the process.
    const isWrong = /^(MOVED|ASK)\b/.test(message) && !REDIRECTION.test(message)
    if (isWrong || /^(TRYAGAIN|NOSCRIPT)/.test(message)) handlers.defaults()
    else super.handleError(...args)
  }

  override disconnect(reconnect = false): void {
    const waiting = this.nodes().filter(({ status }) => status === 'reconnecting')
    super.disconnect(reconnect)
    // ioredis waits for the end of every node, but emits none for a node that was about to reconnect.
    for (const node of waiting) node.emit('end')
    // A later answer makes ioredis ask for the slots again and again without a server, and the process would not end.
    if (!reconnect) this.refreshSlotsCache = () => {}
  }
}
