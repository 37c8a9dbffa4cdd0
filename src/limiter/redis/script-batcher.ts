import type { DegradedReason } from '../limiter.js'
import type { Shard } from './node.js'
import type { Shards } from './nodes.js'
import { type Client, foreignKeys, runSettle, runTake, runTakeMixed, type Settle } from './scripts.js'
import { isTryAgain, storeError } from './store-timeout.js'
import { type Asked, answerAll, isReply, mergeEqual, readReply } from './take-batch.js'

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
  /** Requests in one script call at most. */
  readonly batch: number
  /** Whether equal requests of one turn are asked as one. */
  readonly merge: boolean
  /** Ms that a decision waits for others to go along with; 0: it goes at the end of its turn. A part of `timeoutMs`. */
  readonly gatherMs: number
  /** Tests only: unix ms, in place of the server's clock. */
  readonly now: (() => number) | undefined
  readonly warn: (fields: object, message: string) => void
  /** These keys held something else than counts. */
  readonly onForeign: (keys: readonly string[]) => void
}

/** Turns without equal requests after which only every so many-th turn is looked through for them. */
const LOOK_ALWAYS = 64
const LOOK_EVERY = 8
/** Ms: a timer that fires so late tells of an event loop that stood still. */
const STALLED = 5
/** Ms after which no more replies are thought to come, once the event loop turns again. */
const SILENCE = 10

interface Batch {
  readonly shard: Shard
  readonly asked: readonly Asked[]
  readonly sentAt: number
  /** `performance.now()` past which the store is too late. */
  readonly due: number
  done: boolean
}

/**
 * What comes up in one turn of the event loop, or within `gatherMs`, goes out together: one script call per 64 requests or as many as `batch` says, in a Cluster one per
 * slot, and one write per server. Replies are matched in order. Nothing is sent twice that may have run.
 */
export function createSender(options: SenderOptions): Sender {
  const { store, shards, timeoutMs, batch: most, merge, gatherMs, now, warn, onForeign } = options
  const inFlight: Batch[] = []
  let plain: Asked[] = []
  let mixed: Asked[] = []
  let settling: Settling[] = []
  let scheduled = false
  let gathering: NodeJS.Timeout | undefined
  let turnsWithout = 0
  let timer: NodeJS.Timeout | undefined
  /** `performance.now()` at which the timer was to fire. */
  let wakeAt = 0
  /** `performance.now()` */
  let latestReply = 0

  function schedule(): void {
    if (scheduled) return
    if (gatherMs > 0 && plain.length + mixed.length < most) {
      gathering ??= setTimeout(flush, gatherMs)
      return
    }
    scheduled = true
    setImmediate(flush)
  }

  function flush(): void {
    scheduled = false
    clearTimeout(gathering)
    gathering = undefined
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

  /** Looking for equals costs every request a little. Where there were none for a while, it is done in few turns. */
  function merged(takes: readonly Asked[]): readonly Asked[] {
    if (!merge || takes.length < 2) return takes
    if (turnsWithout > LOOK_ALWAYS && ++turnsWithout % LOOK_EVERY !== 0) return takes
    const left = mergeEqual(takes)
    turnsWithout = left.length < takes.length ? 0 : turnsWithout + 1
    return left
  }

  function inBatches<T extends { readonly slot: number }>(
    all: readonly T[],
    send: (batch: readonly T[]) => void,
  ): void {
    if (!shards.clustered) {
      for (let i = 0; i < all.length; i += most) send(all.slice(i, i + most))
      return
    }
    const bySlot = new Map<number, T[]>()
    for (const one of all) {
      const others = bySlot.get(one.slot)
      if (others === undefined) bySlot.set(one.slot, [one])
      else others.push(one)
    }
    for (const group of bySlot.values()) {
      for (let i = 0; i < group.length; i += most) send(group.slice(i, i + most))
    }
  }

  function sendTakes(asked: readonly Asked[], sentAt = performance.now()): void {
    const { shard, plain: isPlain } = asked[0]!
    const batch: Batch = { shard, asked, sentAt, due: sentAt + timeoutMs - gatherMs, done: false }
    inFlight.push(batch)
    if (timer === undefined) wakeIn(timeoutMs - gatherMs)
    const run = isPlain ? runTake : runTakeMixed
    // An injected clock is not the server's, which the deadline is reckoned by.
    const call =
      now === undefined
        ? run(store, asked, shard.deadline(sentAt - gatherMs), 0)
        : run(store, asked, 0, now())
    call
      .then(
        (reply) => onReply(batch, reply),
        (error: unknown) => onError(batch, error),
      )
      .catch((error: unknown) => {
        warn({ error: storeError(error) }, 'an answer of the store could not be read')
        giveUp(batch, 'error')
      })
  }

  function sendSettles(settles: readonly Settling[]): void {
    runSettle(
      store,
      settles.map(({ settle }) => settle),
      now?.() ?? 0,
    ).then(
      (reply) => {
        const [at]: unknown[] = Array.isArray(reply) ? reply : []
        const isTime = Number.isSafeInteger(at)
        if (isTime)
          tellForeign(
            settles.map(({ settle }) => settle),
            reply,
          )
        for (const { resolve } of settles) resolve(isTime ? (at as number) : undefined)
      },
      (error: unknown) => {
        warn({ error: storeError(error) }, 'the store did not hear what was to be settled')
        for (const { resolve } of settles) resolve(undefined)
      },
    )
  }

  function onReply(batch: Batch, reply: unknown): void {
    latestReply = performance.now()
    if (batch.done) return
    if (!isReply(batch.asked, reply)) {
      warn({}, 'the store answered with something that is no decision')
      giveUp(batch, 'error')
      return
    }
    batch.shard.answered(reply[0]!, now === undefined ? batch.sentAt : undefined)
    if (reply.length === 1) {
      // The server refused to charge so late, or its clock has leapt; the reading just learnt sets that right.
      giveUp(batch, 'timeout')
      return
    }
    finish(batch)
    tellForeign(batch.asked, reply)
    readReply(batch.asked, reply, batch.sentAt)
  }

  function tellForeign(sent: readonly { keys: readonly string[] }[], reply: readonly number[]): void {
    const keys = foreignKeys(sent, reply)
    if (keys.length > 0) onForeign(keys)
  }

  function onError(batch: Batch, error: unknown): void {
    if (batch.done) return
    if (isTryAgain(error)) {
      // The slot is on the move, with some of the keys on either server, which both are well. Nothing has run, and one
      // key at a time finds its server.
      finish(batch)
      if (batch.asked.length === 1) answerAll(batch.asked[0]!, 'error')
      else for (const one of batch.asked) sendTakes([one], batch.sentAt)
      return
    }
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

  function wakeIn(ms: number): void {
    wakeAt = performance.now() + ms
    timer = setTimeout(onTimer, ms)
  }

  /**
   * One timer for the oldest batch. Between what is due and giving it up lies a look at the sockets: replies that
   * arrived while our own event loop stood still go first. They may be more than a socket holds, and the server sends
   * the rest once there is room; so after a stall, as long as replies come, they are waited for.
   */
  function onTimer(): void {
    const firedAt = performance.now()
    const patience = firedAt - wakeAt > STALLED ? firedAt + timeoutMs : firedAt
    const isOverdue = () => inFlight[0] !== undefined && inFlight[0].due <= firedAt + 1
    function giveUpOverdue(): void {
      const now = performance.now()
      if (isOverdue() && now < patience && now - latestReply < SILENCE) {
        timer = setTimeout(giveUpOverdue, SILENCE / 2)
        return
      }
      timer = undefined
      while (isOverdue()) giveUp(inFlight[0]!, 'timeout')
      if (inFlight[0] !== undefined) wakeIn(inFlight[0].due - performance.now())
    }
    setImmediate(giveUpOverdue)
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
