import { withTimeout } from '../../common/wait.js'
import { readSlots, SLOTS, type SlotRange } from './cluster-slots.js'
import { nodeConnector, type OnBroken, serverAt } from './connectors.js'
import { Cluster, type ClusterNode, Redis } from './ioredis.js'
import { createNodeLink, type NodeLink } from './node-link.js'

/** Matches `MOVED 3999 127.0.0.1:6381`. The host may be missing or an IPv6 address. */
const REDIRECTION = /^(?:MOVED|ASK) (\d{1,5}) \S*:\d{1,5}$/
/** How long a node may take to answer CLUSTER SLOTS, in ms. */
const SLOTS_TIMEOUT = 1000
/** Shortest time between two questions for the slots because of MOVED, with jitter, in ms. */
const MOVED_PAUSE = 500
const MOVED_JITTER = 500
/** Error of a server that is not in a Cluster. */
const NO_CLUSTER = /cluster support disabled/
const NO_LIST = 'the reply to CLUSTER SLOTS is not a list of slots'
const NO_SLOTS = 'it knows no slots of a Cluster'
/** `connect` of ioredis compares the message. */
const NO_NODE_ANSWERS = 'Failed to refresh slots cache.'

type ClusterSettings = NonNullable<ConstructorParameters<typeof Cluster<'legacy'>>[1]>
type OnSlots = (error?: Error | null) => void

const links = new WeakMap<Redis, NodeLink>()

/** Returns the connection to a node of a Cluster; undefined if ioredis connects to the node. */
export function linkOf(node: Redis): NodeLink | undefined {
  return links.get(node)
}

/**
 * Cluster client that resends a command only if the server has said that it did not run it: once and at once, after
 * MOVED and ASK. Everything else that ioredis would do is left out.
 *
 * It opens no connection to ask for the slots, as ioredis would each time: it takes one that is there.
 */
export class StoreCluster extends Cluster {
  readonly #onBroken: OnBroken
  #waiting: OnSlots[] = []
  #asking = false
  /** When MOVED may lead to the next question for the slots (`performance.now()`). */
  #movedAgainAt = 0
  #timer: NodeJS.Timeout | undefined
  #closed = false

  /** @param ownConnection true if each node has one connection, a `NodeLink`; false if ioredis connects */
  constructor(nodes: ClusterNode[], onBroken: OnBroken, ownConnection: boolean, options: ClusterSettings) {
    super(nodes, options)
    this.on('+node', (node: Redis) => {
      if (ownConnection) link(node, onBroken)
      // ioredis waits for no answer to ASKING, which fails where ASK names a node that is not there.
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
    const redirection = REDIRECTION.exec(message)
    // ioredis parses a redirection without checking it, and an error thrown here ends the process.
    const isWrong = /^(MOVED|ASK)\b/.test(message) && redirection === null
    if (isWrong || /^(TRYAGAIN|NOSCRIPT)/.test(message)) handlers.defaults()
    else {
      // ioredis changes the list of the slot, which all slots of a range share.
      const slot = Number(redirection?.[1])
      if (message.startsWith('MOVED') && this.slots[slot] !== undefined)
        this.slots[slot] = [...this.slots[slot]]
      super.handleError(...args)
    }
  }

  /**
   * Asks one node after the other for the slots, those with a connection first.
   *
   * @param callback gets an error if none answers. Without it the question is one of many that MOVED leads to: it may be
   *   asked later, as ioredis has noted the new server of that slot.
   */
  override refreshSlotsCache(callback?: OnSlots): void {
    if (callback !== undefined) this.#waiting.push(callback)
    else if (!this.#mayFollowMoved()) return
    if (this.#asking || this.#closed) return
    this.#asking = true
    this.#askForSlots().then((error) => {
      this.#asking = false
      const told = this.#waiting
      this.#waiting = []
      // ioredis would start its timer once more, and the process would not end.
      if (this.#closed) return
      for (const callback of told) callback(error)
    })
  }

  /** Returns true if the slots may be asked for now because of MOVED. Otherwise they are asked for later. */
  #mayFollowMoved(): boolean {
    const now = performance.now()
    const wait = this.#movedAgainAt - now
    if (wait <= 0) {
      this.#movedAgainAt = now + MOVED_PAUSE + Math.random() * MOVED_JITTER
      return true
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.refreshSlotsCache()
    }, wait).unref()
    return false
  }

  /**
   * Learns the slots from the first node that knows any. A node that has lost its Cluster knows none: it says nothing about
   * the others. A server that is not in a Cluster has all slots, if no node knows better: so gateways can be ready for a
   * Cluster before Redis is one.
   *
   * @returns an error if no node answers
   */
  async #askForSlots(): Promise<Error | undefined> {
    const shuffled = this.nodes()
      .map((node) => ({ node, at: Math.random() - (isConnected(node) ? 1 : 0) }))
      .sort((a, b) => a.at - b.at)
    let alone: readonly SlotRange[] | undefined
    for (const { node } of shuffled) {
      const { host = '127.0.0.1', port = 6379 } = node.options
      const server = `${host}:${port}`
      try {
        const ranges = await slotsFrom(node, host)
        if (this.#isDisconnected()) break
        if (ranges === undefined) {
          this.#onBroken(server, NO_LIST)
          giveUp(node)
          throw new Error(NO_LIST)
        }
        if (ranges.length === 0) throw new Error(NO_SLOTS)
        this.#know(ranges)
        return undefined
      } catch (error) {
        if (this.#isDisconnected()) break
        if (NO_CLUSTER.test((error as Error).message))
          alone ??= [{ first: 0, last: SLOTS - 1, nodes: [{ host, port }] }]
        else this.emit('node error', error, server)
      }
    }
    if (alone === undefined || this.#isDisconnected()) return new Error(NO_NODE_ANSWERS)
    this.#know(alone)
    return undefined
  }

  #isDisconnected(): boolean {
    return this.status === 'disconnecting' || this.status === 'close' || this.status === 'end'
  }

  #know(ranges: readonly SlotRange[]): void {
    const nodes = []
    for (const range of ranges) {
      const servers = range.nodes.map(({ host, port }) => `${host}:${port}`)
      nodes.push(...range.nodes.map((node, i) => ({ ...node, readOnly: i > 0 })))
      for (let slot = range.first; slot <= range.last; slot++) this.slots[slot] = servers
    }
    // biome-ignore lint/complexity/useLiteralKeys: it is private
    this['connectionPool'].reset(nodes)
    // A replica is only asked while no primary answers.
    for (const node of this.nodes('slave')) linkOf(node)?.end()
    this.emit('refresh')
  }

  override disconnect(reconnect = false): void {
    const waiting = this.nodes().filter(({ status }) => status === 'reconnecting')
    this.#closed ||= !reconnect
    clearTimeout(this.#timer)
    super.disconnect(reconnect)
    // ioredis waits for the end of every node, but emits none for a node that was about to reconnect.
    for (const node of waiting) node.emit('end')
  }
}

/** Makes one connection carry everything that goes to a node. The client of ioredis never connects. */
function link(node: Redis, onBroken: OnBroken): void {
  const { host = '127.0.0.1', port = 6379, tls } = node.options
  const link = createNodeLink(node, serverAt({ host, port }, tls, onBroken))
  links.set(node, link)
  node.sendCommand = (command) => {
    // ioredis tells the server when a node has changed its role. Nothing is read from replicas.
    if (command.name === 'readonly' || command.name === 'readwrite') command.resolve(Buffer.from('OK'))
    else {
      link.request(wireOf(command.toWritable(node.stream)), (error, reply) => {
        if (error === undefined) command.resolve(reply)
        else command.reject(error)
      })
    }
    return command.promise
  }
}

function wireOf(written: string | Buffer): string {
  return (typeof written === 'string' ? Buffer.from(written) : written).toString('latin1')
}

function isConnected(node: Redis): boolean {
  return linkOf(node)?.isReady() ?? node.status === 'ready'
}

function giveUp(node: Redis): void {
  const link = linkOf(node)
  if (link === undefined) node.disconnect(true)
  else link.reset()
}

/**
 * Asks a node for the slots. Rejects if it does not answer in time.
 *
 * @returns undefined if the reply is not a list of slots
 */
async function slotsFrom(node: Redis, host: string) {
  const slots = await withTimeout(node.cluster('SLOTS'), SLOTS_TIMEOUT, () => {
    throw new Error('timeout')
  })
  return readSlots(slots, host)
}
