import { randomUUID } from 'node:crypto'
import { type Client, runAnnounce } from './scripts.js'
import { askStore } from './store-timeout.js'

/** How many gateways share the store, by what each of them announces about itself. */
export interface Nodes {
  /** The latest number known, at least 1. While the store is away it stays what it was. */
  count(): number
  close(): Promise<void>
}

const KEY = 'nodes:{gateways}'
/** Ms. */
const ANNOUNCE_EVERY = 1000
/** Ms: two announcements may be lost before a gateway is taken for dead. */
const BELIEVED_FOR = 3500
/** Ms: a store that hangs must not keep a gateway from leaving. */
const LEAVE_TIMEOUT = 500

/**
 * Announces this process every second, in the background.
 *
 * @param key of those that are counted together: by default all that decide
 * @param self unlike that of any other
 */
export function createNodes(store: Client, key = KEY, self = randomUUID().slice(0, 13)): Nodes {
  let count = 1
  let timer: NodeJS.Timeout | undefined
  let closed = false

  async function announce(): Promise<void> {
    try {
      const alive = await runAnnounce(store, key, self, BELIEVED_FOR)
      if (Number.isSafeInteger(alive)) count = Math.max(1, alive)
    } catch {
      // Others complain about the store; here it only means that the number may be old.
    }
    if (closed) return
    timer = setTimeout(announce, ANNOUNCE_EVERY * (0.9 + Math.random() * 0.2))
    timer.unref()
  }

  if (store.status === 'ready') announce()
  else store.once('ready', announce)

  return {
    count: () => count,
    async close() {
      closed = true
      clearTimeout(timer)
      store.off('ready', announce)
      if (store.status !== 'ready') return
      await askStore(LEAVE_TIMEOUT, runAnnounce(store, key, self, 0)).catch(() => {})
    },
  }
}
