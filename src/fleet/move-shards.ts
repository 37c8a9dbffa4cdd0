import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { HEARTBEAT_KEYS, type Heartbeat } from '../limiter/redis/heartbeat.js'
import { runLayout, runRestore, type StoredValue } from '../limiter/redis/map-scripts.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { type Layout, layoutText, readLayout } from './layout.js'
import { MapRefusal } from './replicated-map.js'
import { byShard, type ShardCount, type ShardedShape, SPLIT, shardOf, shardsOf } from './shards.js'
import { pagesOf, readMark, readVersion, type Version, versionText } from './stored-map.js'

export interface MoveOptions {
  readonly store: Client
  readonly heartbeat: Pick<Heartbeat, 'members' | 'announce'>
  /** Shapes of all maps that have shards. */
  readonly shapes: readonly ShardedShape[]
  /** How long the gateways may take to read from the other shards, in ms. */
  readonly patienceMs?: number
  /** Time within which a gateway that has just started says from how many shards it reads, in ms. */
  readonly settledAfterMs?: number | undefined
}

export interface Moved {
  readonly shards: ShardCount
  /** False if the store had that many shards already, and nothing was left to do. */
  readonly moved: boolean
  /** Number of records that were copied, by the name of the map's content. */
  readonly copied: Readonly<Record<string, number>>
}

/** Process that moves records at present. Only one may. */
const LOCK = 'nodes:{gateways}:mover'
const LOCKED_FOR = 30_000
const RENEW_EVERY = 5000
/** Records per page, and per call of the script. Redis does nothing else during a call. */
const PAGE = 4000
const AT_ONCE = 200
const TIMEOUT = 5000
const PATIENCE = 120_000
const SETTLED_AFTER = 2500
const LOOK_EVERY = 200

/** Reads the layout from the store. Rejects if it does not answer. */
export async function storedLayout(store: Client): Promise<Layout> {
  return readLayout(await askStore(TIMEOUT, store.get(HEARTBEAT_KEYS.layout)))
}

/**
 * Moves the records of all sharded maps to another number of shards, while gateways serve. What is in force does not
 * change on any gateway. Writes are refused from the first copied record until every gateway reads the copies.
 *
 * A move that was interrupted is finished by another one to the same number, and undone by one to the other number.
 *
 * @throws MapRefusal with a message for an operator if it cannot be done
 */
export async function moveShards(target: ShardCount, options: MoveOptions): Promise<Moved> {
  const { store, heartbeat, shapes, patienceMs = PATIENCE, settledAfterMs = SETTLED_AFTER } = options
  const self = randomUUID()
  const ask = <T>(question: Promise<T>) => askStore(TIMEOUT, question)
  const scanOf = (name: string) => (cursor: string) => ask(store.hscan(name, cursor, 'COUNT', PAGE))
  const copied: Record<string, number> = {}

  async function lock(): Promise<NodeJS.Timeout> {
    if ((await ask(store.set(LOCK, self, 'PX', LOCKED_FOR, 'NX'))) === null)
      throw new MapRefusal('another operator is doing that; if not, try again in 30 s')
    return setInterval(() => {
      ask(keepLock()).catch(() => {})
    }, RENEW_EVERY).unref()
  }

  /** Rejects if another process has taken over. */
  async function keepLock(): Promise<void> {
    if ((await ask(store.get(LOCK))) !== self) throw new MapRefusal('another operator has taken over')
    await ask(store.set(LOCK, self, 'PX', LOCKED_FOR))
  }

  async function unlock(): Promise<void> {
    if ((await ask(store.get(LOCK))) === self) await ask(store.del(LOCK))
  }

  async function writeLayout({ moves }: Layout, shards: ShardCount, other: ShardCount | undefined) {
    await keepLock()
    const layout: Layout = { moves: moves + 1, shards, other }
    const text = layoutText(layout)
    if ((await ask(runLayout(store, text))) !== text) throw new MapRefusal('another operator has taken over')
    // The gateways look at the layout when something is announced.
    await heartbeat.announce('layout').catch(() => {})
    return layout
  }

  const versionOf = async ({ name }: ShardedShape) => readVersion(await ask(store.get(`${name}:version`)))

  /** Changes the version of a shard while others may change it, too. */
  async function setVersion(shard: ShardedShape, next: (version: Version) => Version): Promise<Version> {
    for (;;) {
      const text = await ask(store.get(`${shard.name}:version`))
      const version = next(readVersion(text))
      if (await ask(runRestore(store, shard.name, text ?? '0', versionText(version), []))) return version
    }
  }

  /** Runs the work for every shard, a few at a time. */
  async function forShards(
    count: ShardCount,
    work: (shard: ShardedShape) => Promise<unknown>,
  ): Promise<void> {
    for (const shape of shapes) {
      const shards = shardsOf(shape, count)
      for (let k = 0; k < shards.length; k += 8) await Promise.all(shards.slice(k, k + 8).map(work))
    }
  }

  async function refuseIfItCannotBeDone(source: ShardCount): Promise<void> {
    const older = (await heartbeat.members()).filter((member) => member.older)
    if (older.length > 0) {
      throw new MapRefusal(
        `${older.length} gateways of an older version are running, which do not know shards; stop or update them first`,
      )
    }
    for (const shape of shapes) {
      let count = 0
      for (const { name, what } of shardsOf(shape, source)) {
        count += await ask(store.hlen(name))
        if (readMark(await ask(store.get(`${name}:rollback`))).state === 'open')
          throw new MapRefusal(`the store has forgotten ${what}; decide that first, with tidegate store`)
      }
      if (target !== SPLIT && count > shape.most)
        throw new MapRefusal(`there are ${count} ${shape.what}, and one shard takes ${shape.most}`)
    }
  }

  /** Removes the values of a shard, in pages: Redis would do nothing else meanwhile. Its version stays. */
  async function empty({ name }: ShardedShape): Promise<void> {
    // Nobody may find changes in the log whose values are gone.
    for (const part of ['log', 'ends', 'used'])
      while ((await ask(store.zremrangebyrank(`${name}:${part}`, 0, PAGE - 1))) === PAGE);
    await ask(store.del(`${name}:rollback`))
    for await (const page of pagesOf(scanOf(name))) await ask(store.hdel(name, ...page.map(([key]) => key)))
  }

  /** Copies the values of a shard into the shards of the target. */
  async function copy(shape: ShardedShape, { name }: ShardedShape, version: string): Promise<void> {
    const targets = shardsOf(shape, target)
    const isUsed = (await ask(store.zcard(`${name}:used`))) > 0
    for await (const page of pagesOf(scanOf(name))) {
      const keys = page.map(([key]) => key)
      const [ends, used] = await Promise.all([
        ask(store.zmscore(`${name}:ends`, ...keys)),
        isUsed ? ask(store.zmscore(`${name}:used`, ...keys)) : [],
      ])
      const values = page.map(([key, text], i): StoredValue => ({ key, text, until: Number(ends[i] ?? 0) }))
      const writes: Promise<unknown>[] = []
      for (const [k, some] of byShard(values, ({ key }) => key, target)) {
        for (let i = 0; i < some.length; i += AT_ONCE)
          writes.push(write(targets[k]!.name, version, some.slice(i, i + AT_ONCE)))
      }
      for (const [i, minute] of used.entries()) {
        const key = keys[i]!
        if (minute !== null)
          writes.push(ask(store.zadd(`${targets[shardOf(key, target)]!.name}:used`, minute, key)))
      }
      await Promise.all(writes)
    }
  }

  async function write(name: string, version: string, values: readonly StoredValue[]): Promise<void> {
    if (!(await ask(runRestore(store, name, version, version, values))))
      throw new MapRefusal('another operator has taken over')
  }

  /**
   * Returns true if the records are in the shards of the target although the layout says otherwise: the store has
   * forgotten the layout, and no gateway was there to write it back.
   */
  async function isForgotten(source: ShardCount): Promise<boolean> {
    const states = async (count: ShardCount) =>
      new Set(
        await Promise.all(
          shapes.flatMap((shape) =>
            shardsOf(shape, count).map(async (shard) => (await versionOf(shard)).state),
          ),
        ),
      )
    if (!(await states(source)).has('moved')) return false
    if ((await states(target)).has('moved'))
      throw new MapRefusal('the records are in neither layout as a whole; restore the store from a backup')
    return true
  }

  const countIn = async (shape: ShardedShape, count: ShardCount) => {
    const counts = await Promise.all(shardsOf(shape, count).map(({ name }) => ask(store.hlen(name))))
    return counts.reduce((sum, one) => sum + one, 0)
  }

  async function copyAll(source: ShardCount): Promise<void> {
    await forShards(source, (shard) => setVersion(shard, ({ number }) => ({ number, state: 'frozen' })))
    for (const shape of shapes) {
      const [from, to] = [shardsOf(shape, source), shardsOf(shape, target)]
      // No number that a gateway has seen is given again.
      const versions = await Promise.all([...from, ...to].map(versionOf))
      const number = Math.max(...versions.map((version) => version.number))
      for (const shard of to) {
        await setVersion(shard, () => ({ number, state: 'moved' }))
        await empty(shard)
      }
      for (const shard of from) await copy(shape, shard, versionText({ number, state: 'moved' }))
      copied[shape.what] = await countIn(shape, target)
      if (copied[shape.what]! < (await countIn(shape, source)))
        throw new MapRefusal(`some ${shape.what} are missing in the copy; run the command again`)
    }
    await keepLock()
    await forShards(target, (shard) => setVersion(shard, ({ number }) => ({ number, state: 'frozen' })))
  }

  /** Makes a frozen shard take changes again. */
  const thaw = (shard: ShardedShape) => setVersion(shard, ({ number }) => ({ number, state: 'open' }))

  /** Waits until every gateway reads from the target. */
  async function allRead(): Promise<void> {
    const deadline = performance.now() + patienceMs
    let since = performance.now()
    while (performance.now() - since < settledAfterMs) {
      await delay(LOOK_EVERY)
      const members = await heartbeat.members()
      const others = members.filter(
        ({ older, shards }) => older || (shards !== undefined && shards !== target),
      )
      if (others.length === 0) continue
      since = performance.now()
      if (since < deadline) continue
      const ids = others.map(({ id }) => id).join(', ')
      throw new MapRefusal(
        `these gateways do not read from the other shards yet: ${ids}; run the command again`,
      )
    }
  }

  const renewing = await lock()
  try {
    let layout = await storedLayout(store)
    const source = layout.shards
    if (source === target && layout.other === undefined) return { shards: target, moved: false, copied }
    if (source !== target) {
      await refuseIfItCannotBeDone(source)
      if (!(await isForgotten(source))) {
        layout = await writeLayout(layout, source, target)
        try {
          await copyAll(source)
        } catch (error) {
          // Not if another operator goes on with it.
          await keepLock()
            .then(() => forShards(source, thaw))
            .catch(() => {})
          throw error
        }
      }
      layout = await writeLayout(layout, target, source)
    }
    await allRead()
    await keepLock()
    await forShards(target, thaw)
    const rest = layout.other!
    // These stay, so that nobody who still knows the old layout writes where nobody reads.
    await forShards(rest, (shard) => setVersion(shard, ({ number }) => ({ number, state: 'moved' })))
    await forShards(rest, empty)
    await writeLayout(layout, target, undefined)
    return { shards: target, moved: true, copied }
  } finally {
    clearInterval(renewing)
    await unlock().catch(() => {})
  }
}
