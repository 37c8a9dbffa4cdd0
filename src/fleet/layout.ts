import { deferred } from '../common/wait.js'
import type { Heartbeat } from '../limiter/redis/heartbeat.js'
import { runLayout } from '../limiter/redis/map-scripts.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { ASSIGNMENTS } from './assignments.js'
import { type ShardCount, SPLIT } from './shards.js'
import { readVersion } from './stored-map.js'

/** Shards that hold the maps that grow with users, kept at `nodes:{gateways}:layout`. */
export interface Layout {
  /** Number of moves from one number of shards to the other so far. A layout of fewer moves is an older one. */
  readonly moves: number
  readonly shards: ShardCount
  /** The other number of shards, while keys of it may exist: records are being copied there, or not yet removed. */
  readonly other: ShardCount | undefined
}

const FIRST: Layout = { moves: 0, shards: 1, other: undefined }

/** Parses a layout. Anything that is not one of ours counts as the first: any client with access to the store may write. */
export function readLayout(text: string | null): Layout {
  const [, moves, shards, other] = /^(\d{1,9}) (1|64)(?: (1|64))?$/.exec(text ?? '') ?? []
  if (moves === undefined) return FIRST
  const count = (one: string | undefined) => (one === undefined ? undefined : (Number(one) as ShardCount))
  return { moves: Number(moves), shards: count(shards)!, other: count(other) }
}

export function layoutText({ moves, shards, other }: Layout): string {
  return other === undefined ? `${moves} ${shards}` : `${moves} ${shards} ${other}`
}

const TIMEOUT = 1000

export interface LayoutOptions {
  readonly store: Client
  readonly heartbeat: Pick<Heartbeat, 'layout' | 'onChanges' | 'setShards'>
}

/** Reads from the shards of a layout. Resolves when it does. */
export type Follow = (shards: ShardCount) => Promise<void>

export type LayoutFollower = ReturnType<typeof createLayoutFollower>

/**
 * Follows the layout of the store for all maps of this process, and tells the other gateways how far it is. A layout
 * that the store has forgotten stays in force, and is written back.
 */
export function createLayoutFollower({ store, heartbeat }: LayoutOptions) {
  const followers: Follow[] = []
  let known: Layout | undefined
  const { promise: first, resolve: markKnown } = deferred()
  /** True once it is known that a missing layout is the first one. */
  let isFirstSure = false

  function look(): void {
    const text = heartbeat.layout() ?? ''
    if (known === undefined && text === '' && !isFirstSure) {
      // If that fails, the next heartbeat tries again.
      askStore(TIMEOUT, checkFirst()).catch(() => {})
      return
    }
    const layout = readLayout(text)
    if (known !== undefined && layout.moves < known.moves) {
      // If that fails, the next heartbeat tries again.
      askStore(TIMEOUT, runLayout(store, layoutText(known))).catch(() => {})
      return
    }
    const isOther = layout.shards !== known?.shards
    const isFirst = known === undefined
    known = layout
    if (isFirst) {
      heartbeat.setShards(layout.shards)
      markKnown()
    }
    if (isOther) openAll(layout)
  }

  /** Writes the layout if the store has forgotten it while no gateway was there: the records of one shard say so. */
  async function checkFirst(): Promise<void> {
    const { state } = readVersion(await store.get(`${ASSIGNMENTS.name}:version`))
    if (state === 'moved') await runLayout(store, layoutText({ moves: 1, shards: SPLIT, other: 1 }))
    else {
      isFirstSure = true
      look()
    }
  }

  async function openAll({ shards }: Layout): Promise<void> {
    await Promise.all(followers.map((open) => open(shards)))
    if (known!.shards === shards) heartbeat.setShards(shards)
  }

  const silence = heartbeat.onChanges(look)
  if (heartbeat.layout() !== undefined) look()

  return {
    /** Registers a map, which `open` opens as soon as the layout is known, and again with each other one. */
    follow(open: Follow): void {
      followers.push(open)
      if (known !== undefined) void open(known.shards)
    },
    /** Returns the number of shards in force. Rejects if the store has not said yet, and does not within a second. */
    async shards(): Promise<ShardCount> {
      if (known === undefined) await askStore(TIMEOUT, first)
      return known!.shards
    },
    close: () => silence(),
  }
}
