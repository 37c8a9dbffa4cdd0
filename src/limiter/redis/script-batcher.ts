import { groupBy } from '../../common/maps.js'
import type { DegradedReason } from '../limiter.js'
import { createGathering } from './gather.js'
import type { Shard } from './node.js'
import type { Shards } from './nodes.js'
import { foreignKeys, type Settle, settleCall, takeCall, takeMixedCall } from './scripts.js'
import { isTryAgain, storeError } from './store-timeout.js'
import { answerAll, isReply, mergeEqual, readReply, type WaitingTake } from './take-batch.js'

/** Charge that waits to be settled. */
interface Settling {
  readonly slot: number
  readonly settle: Settle
  readonly resolve: (at: number | undefined) => void
}

export type Sender = ReturnType<typeof createSender>

export interface SenderOptions {
  readonly shards: Shards
  /** How long a decision waits for the store, in ms. */
  readonly timeoutMs: number
  /** Maximum number of requests in one script call. */
  readonly batch: number
  /** True if equal requests of one turn are sent as one. */
  readonly merge: boolean
  /** As in `GatheringOptions`. It is part of `timeoutMs`. */
  readonly gatherMs: number | 'auto'
  /** For tests only: clock in unix ms, in place of the server's. */
  readonly now: (() => number) | undefined
  readonly warn: (fields: object, message: string) => void
  /** Called with keys that held something other than counts. */
  readonly onForeign: (keys: readonly string[]) => void
}

/** Turns without equal requests after which only every `LOOK_EVERY`-th turn is searched for them. */
const LOOK_ALWAYS = 64
const LOOK_EVERY = 8
/** Delay of a timer that shows a blocked event loop, in ms. */
const STALLED = 5
/** Time without a reply after which no more are expected, once the event loop runs again, in ms. */
const SILENCE = 10

interface Batch {
  readonly shard: Shard
  readonly asked: readonly WaitingTake[]
  readonly sentAt: number
  /** `performance.now()` after which the store is too late. */
  readonly due: number
  done: boolean
}

/**
 * Collects requests (`gather.ts` decides for how long) and sends them together: one script call per 64
 * requests or as many as `batch` says, in a Cluster one per slot, and one write per server. Replies are matched in
 * order. Nothing that may have run is sent twice.
 */
export function createSender(options: SenderOptions) {
  const { shards, timeoutMs, batch: most, merge, gatherMs, now, warn, onForeign } = options
  const inFlight: Batch[] = []
  let plain: WaitingTake[] = []
  let mixed: WaitingTake[] = []
  let settling: Settling[] = []
  let turnsWithout = 0
  let timer: NodeJS.Timeout | undefined
  /** `performance.now()` at which the timer is due. */
  let wakeAt = 0
  /** `performance.now()` of the latest reply. */
  let latestReply = 0

  const gathering = createGathering({
    gatherMs,
    most,
    waiting: () => plain.length + mixed.length,
    send: sendAll,
  })

  function sendAll(since: number, sentAt: number): void {
    const [settles, plainTakes, mixedTakes] = [settling, plain, mixed]
    settling = []
    plain = []
    mixed = []
    const send = (asked: readonly WaitingTake[]) => sendTakes(asked, since, sentAt)
    shards.together(() => {
      inBatches(settles, sendSettles)
      inBatches(merged(plainTakes), send)
      inBatches(merged(mixedTakes), send)
    })
  }

  /**
   * Merges equal requests. The search costs every request a little. If there were none for a while, few turns are
   * searched.
   */
  function merged(takes: readonly WaitingTake[]): readonly WaitingTake[] {
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
    for (const group of groupBy(all, ({ slot }) => slot).values()) {
      for (let i = 0; i < group.length; i += most) send(group.slice(i, i + most))
    }
  }

  /** @param since `performance.now()` from which the requests have waited */
  function sendTakes(asked: readonly WaitingTake[], since: number, sentAt: number): void {
    const { shard, plain: isPlain } = asked[0]!
    const batch: Batch = { shard, asked, sentAt, due: since + timeoutMs, done: false }
    inFlight.push(batch)
    if (timer === undefined) wakeIn(batch.due - sentAt)
    const write = isPlain ? takeCall : takeMixedCall
    // The deadline is by the server's clock, so an injected clock has none.
    const call = now === undefined ? write(asked, shard.deadline(since), 0) : write(asked, 0, now())
    shard.send(call, (error, reply) => {
      try {
        if (error === undefined) onReply(batch, reply)
        else onError(batch, error)
      } catch (error) {
        warn({ error: storeError(error) }, 'a reply of the store could not be read')
        giveUp(batch, 'error')
      }
    })
  }

  function sendSettles(settles: readonly Settling[]): void {
    const all = settles.map(({ settle }) => settle)
    const answer = (at: number | undefined) => {
      for (const { resolve } of settles) resolve(at)
    }
    const shard = shards.of(settles[0]!.slot)
    if (shard === undefined) {
      answer(undefined)
      return
    }
    shard.send(settleCall(all, now?.() ?? 0), (error, reply) => {
      if (error !== undefined) {
        warn({ error: storeError(error) }, 'the store did not get changes of earlier charges')
        answer(undefined)
        return
      }
      const at: unknown = Array.isArray(reply) ? reply[0] : undefined
      const isTime = typeof at === 'number' && Number.isSafeInteger(at)
      if (isTime) tellForeign(all, reply as readonly number[])
      answer(isTime ? at : undefined)
    })
  }

  function onReply(batch: Batch, reply: unknown): void {
    latestReply = performance.now()
    if (batch.done) return
    if (!isReply(batch.asked, reply)) {
      warn({}, 'the store sent a reply that is not a decision')
      giveUp(batch, 'error')
      return
    }
    batch.shard.answered(reply[0]!, now === undefined ? batch.sentAt : undefined)
    if (reply.length === 1) {
      // The server refused to charge so late, or its clock has leapt. The new reading corrects that.
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
      // The slot is moving, with its keys on two servers, and both are well. Nothing has run, and one key at a time
      // finds its server.
      finish(batch)
      if (batch.asked.length === 1) answerAll(batch.asked[0]!, 'error')
      else for (const one of batch.asked) sendTakes([one], batch.due - timeoutMs, batch.sentAt)
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
   * Runs for the oldest batch, with one timer. Between a batch's due time and giving it up, the sockets are read:
   * replies that arrived while our own event loop was blocked go first. They may be more than a socket holds, and the
   * server sends the rest once there is room. So after a stall, the sender waits as long as replies come.
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
    ask(asked: WaitingTake): void {
      ;(asked.plain ? plain : mixed).push(asked)
      gathering.added()
    },
    /**
     * Settles a charge. It is sent before the takes of the same turn.
     *
     * @returns the server's unix ms; undefined if the server did not answer
     */
    settle(slot: number, settle: Settle): Promise<number | undefined> {
      return new Promise((resolve) => {
        settling.push({ slot, settle, resolve })
        gathering.added()
      })
    },
    /** Answers all waiting requests. */
    close(): void {
      gathering.flush()
      clearTimeout(timer)
      while (inFlight[0] !== undefined) giveUp(inFlight[0], 'error')
    },
  }
}
