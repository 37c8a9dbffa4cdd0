import { Cluster } from 'ioredis'

/**
 * A Cluster client that sends a command on only where the server has said that it did not run it, and at once: MOVED
 * and ASK, one time. What ioredis would do besides is left out.
 */
export class StoreCluster extends Cluster {
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
    if (/^(TRYAGAIN|NOSCRIPT)/.test(error.message)) handlers.defaults()
    else super.handleError(...args)
  }

  override disconnect(reconnect = false): void {
    super.disconnect(reconnect)
    if (!reconnect) asksNoMore(this)
  }
}

/**
 * For one that is closed: an answer that comes after makes ioredis ask for the slots again and again, of no server, and a process
 * would not end by itself.
 */
export function asksNoMore(cluster: Cluster): void {
  cluster.refreshSlotsCache = () => {}
}
