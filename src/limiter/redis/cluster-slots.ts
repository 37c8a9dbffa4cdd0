/** Consecutive slots of a Cluster. */
export interface SlotRange {
  readonly first: number
  readonly last: number
  /** Nodes that hold them: the primary, then its replicas. */
  readonly nodes: readonly { readonly host: string; readonly port: number }[]
}

/** Number of slots of a Redis Cluster. */
export const SLOTS = 16_384
/** Maximum number of nodes in a Redis Cluster. */
const MOST_NODES = 1000

/**
 * Reads a reply to CLUSTER SLOTS: `[[first, last, [host, port, …], …], …]`.
 *
 * @param asked host that replied. It is that of a node whose host is null or empty, which means unknown.
 * @returns undefined if it is not a list of slots
 */
export function readSlots(reply: unknown, asked: string): readonly SlotRange[] | undefined {
  if (!Array.isArray(reply)) return undefined
  const ranges: SlotRange[] = []
  const known = new Set<string>()
  let slots = 0
  for (const entry of reply as readonly unknown[]) {
    if (!Array.isArray(entry)) return undefined
    const [first, last, ...servers] = entry as readonly unknown[]
    if (!isSlot(first) || !isSlot(last)) return undefined
    slots += Math.max(0, last - first + 1)
    const nodes: { host: string; port: number }[] = []
    for (const server of servers) {
      if (!Array.isArray(server)) return undefined
      const [host, port] = server as readonly unknown[]
      if ((typeof host !== 'string' && host !== null) || !isPort(port)) return undefined
      known.add(`${host}:${port}`)
      nodes.push({ host: host || asked, port })
    }
    ranges.push({ first, last, nodes })
  }
  return slots <= SLOTS && known.size <= MOST_NODES ? ranges : undefined
}

function isSlot(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < SLOTS
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= 65_535
}
