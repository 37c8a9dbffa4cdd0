import { storeError } from './ask.js'
import { type Asked, answerAll, mergeEqual, readReply } from './asked.js'
import type { DegradedReason } from './limiter.js'
import { type Client, runSettle, runTake, runTakeMixed, type Settle } from './scripts.js'
import type { Shard } from './shard.js'
import type { Shards } from './shards.js'

/** What waits to be settled. */
interface Settling {
  readonly slot: number
  readonly settle: Settle
  readonly resolve: (at: number | undefined) => void
}

export interface Sender {
  ask(asked: Asked): void
  /**
   * Goes out before what is asked in the same turn.
   *
   * @returns the server's unix ms; undefined: it was not heard of
   */
  settle(slot: number, settle: Settle): Promise<number | undefined>
  /** Answers all that wait. */
  close(): void
}

export interface SenderOptions {
  readonly store: Client
  readonly shards: Shards
  /** Ms that a decision waits for the store. */
  readonly timeoutMs: number
  /** Whether equal requests of one turn are asked as one. */
  readonly merge: boolean
  /** Tests only: unix ms, in place of the server's clock. */
  readonly now: (() => number) | undefined
  readonly warn: (fields: object, message: string) => void
}

/** Requests in one script call: more would keep the server from its other clients for too long. */
const BATCH = 64

interface Batch {
  readonly shard: Shard
  readonly asked: readonly Asked[]
  readonly sentAt: number
  /** `performance.now()` past which the store is too late. */
  readonly due: number
  done: boolean
}

/**
 * What comes up in one turn of the event loop goes out together: one script call per 64 requests, in a Cluster one per
 * slot, and one write per server. Replies are matched in order. Nothing is ever sent twice.
 */
export function createSender(options: SenderOptions): Sender {
  const { store, shards, timeoutMs, merge, now, warn } = options
  const inFlight: Batch[] = []
  let plain: Asked[] = []
  let mixed: Asked[] = []
  let settling: Settling[] = []
  let scheduled = false
  let timer: NodeJS.Timeout | undefined

  function schedule(): void {
    if (scheduled) return
    scheduled = true
    setImmediate(flush)
  }

  function flush(): void {
    scheduled = false
    const [settles, plainTakes, mixedTakes] = [settling, plain, mixed]
    settling = []
    plain = []
    mixed = []
    shards.together(() => {
      inBatches(settles, sendSettles)
      inBatches(merged(plainTakes), sendTakes)
      inBatches(merged(mixedTakes), sendTakes)
    })
  }

  function merged(takes: readonly Asked[]): readonly Asked[] {
    return merge && takes.length > 1 ? mergeEqual(takes) : takes
  }

  function inBatches<T extends { readonly slot: number }>(
    all: readonly T[],
    send: (batch: readonly T[]) => void,
  ): void {
    if (!shards.clustered) {
      for (let i = 0; i < all.length; i += BATCH) send(all.slice(i, i + BATCH))
      return
    }
    const bySlot = new Map<number, T[]>()
    for (const one of all) {
      const others = bySlot.get(one.slot)
      if (others === undefined) bySlot.set(one.slot, [one])
      else others.push(one)
    }
    for (const group of bySlot.values()) {
      for (let i = 0; i < group.length; i += BATCH) send(group.slice(i, i + BATCH))
    }
  }

  function sendTakes(asked: readonly Asked[]): void {
    const { shard, plain: isPlain } = asked[0]!
    const sentAt = performance.now()
    const batch: Batch = { shard, asked, sentAt, due: sentAt + timeoutMs, done: false }
    inFlight.push(batch)
    timer ??= setTimeout(onTimer, timeoutMs)
    const run = isPlain ? runTake : runTakeMixed
    // An injected clock is not the server's, which the deadline is reckoned by.
    const call =
      now === undefined ? run(store, asked, shard.deadline(sentAt), 0) : run(store, asked, 0, now())
    call.then(
      (reply) => onReply(batch, reply),
      (error: unknown) => onError(batch, error),
    )
  }

  function sendSettles(settles: readonly Settling[]): void {
    runSettle(
      store,
      settles.map(({ settle }) => settle),
      now?.() ?? 0,
    ).then(
      (at) => {
        for (const { resolve } of settles) resolve(at)
      },
      (error: unknown) => {
        warn({ error: storeError(error) }, 'the store did not hear what was to be settled')
        for (const { resolve } of settles) resolve(undefined)
      },
    )
  }

  function onReply(batch: Batch, reply: readonly number[]): void {
    if (batch.done) return
    batch.shard.answered(reply[0]!, now === undefined ? batch.sentAt : undefined)
    if (reply.length === 1) {
      // The server refused to charge so late, or its clock has leapt; the reading just learnt sets that right.
      giveUp(batch, 'timeout')
      return
    }
    finish(batch)
    readReply(batch.asked, reply, batch.sentAt)
  }

  function onError(batch: Batch, error: unknown): void {
    if (batch.done) return
    warn({ error: storeError(error) }, 'the store failed on a decision')
    giveUp(batch, 'error')
  }

  function giveUp(batch: Batch, reason: DegradedReason): void {
    finish(batch)
    batch.shard.missed()
    for (const asked of batch.asked) answerAll(asked, reason)
  }

  function finish(batch: Batch): void {
    batch.done = true
    while (inFlight[0]?.done === true) inFlight.shift()
  }

  /** One timer for the oldest batch. Replies that have arrived while our own event loop stood still go first. */
  function onTimer(): void {
    setImmediate(() => {
      timer = undefined
      const at = performance.now() + 1
      while (inFlight[0] !== undefined && inFlight[0].due <= at) giveUp(inFlight[0], 'timeout')
      const oldest = inFlight[0]
      if (oldest !== undefined) timer = setTimeout(onTimer, oldest.due - performance.now())
    })
  }

  return {
    ask(asked) {
      ;(asked.plain ? plain : mixed).push(asked)
      schedule()
    },
    settle(slot, settle) {
      return new Promise((resolve) => {
        settling.push({ slot, settle, resolve })
        schedule()
      })
    },
    close() {
      flush()
      clearTimeout(timer)
      while (inFlight[0] !== undefined) giveUp(inFlight[0], 'error')
    },
  }
}
