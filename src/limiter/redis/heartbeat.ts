import { randomUUID } from 'node:crypto'
import type { Client } from './run-script.js'
import { runAnnounce } from './scripts.js'
import { askStore } from './store-timeout.js'

/** Number of gateways that share the store, from what each announces about itself. */
export interface Nodes {
  /** Returns the latest known number, at least 1. It does not change while the store is away. */
  count(): number
  close(): Promise<void>
}

const KEY = 'nodes:{gateways}'
/** Interval between announcements, in ms. */
const ANNOUNCE_EVERY = 1000
/** How long an announcement is valid, in ms: two may be lost before a gateway counts as dead. */
const BELIEVED_FOR = 3500
/** Longest wait when leaving, in ms: a store that hangs must not keep a gateway from stopping. */
const LEAVE_TIMEOUT = 500

/**
 * Announces this process every second, in the background.
 *
 * @param key key of the gateways that are counted together. Default: all that decide.
 * @param self unique id
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
      // Other code reports problems of the store. Here they only mean that the number may be old.
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
