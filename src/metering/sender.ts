import { setTimeout as delay } from 'node:timers/promises'
import { eventsOf } from './events.js'
import { NotTaken, type Receiver } from './http-receiver.js'
import type { Interval } from './interval-file.js'
import type { Spool } from './spool.js'

/** Events in one batch at first. */
const BATCH = 500
/** Least ms between two batches: a receiver that comes back after a day is not flooded. */
const PAUSE = 50
const FIRST_WAIT = 1000
const LONGEST_WAIT = 60_000

export interface SenderCounts {
  /** Events that the receiver has taken. */
  sent: number
  /** Batches that it has not taken. */
  failed: number
  /** Why the latest one was not taken; undefined once one is. */
  problem: string | undefined
  /** End of the latest interval that was taken completely, in unix ms. */
  sentTo: number | undefined
}

export interface SenderOptions {
  readonly spool: Pick<Spool, 'next' | 'sent' | 'read'>
  readonly receiver: Receiver
  readonly log: Record<'warn' | 'info', (fields: object, message: string) => void>
}

/**
 * Sends the intervals of the spool, oldest first. A batch that was not taken is sent again: its events have the same ids, so
 * a receiver that removes duplicates counts them once.
 */
export function createSender({ spool, receiver, log }: SenderOptions) {
  const counts: SenderCounts = { sent: 0, failed: 0, problem: undefined, sentTo: undefined }
  const stopping = new AbortController()
  /** Continues the loop when it waits for an interval. */
  let proceed: () => void = () => {}
  /** There may be an interval that the loop has not seen. */
  let more = false
  let batch = BATCH
  let waited = FIRST_WAIT
  /** How many events of the interval that is being sent the receiver has taken. */
  let taken = { stem: '', events: 0 }

  /** Waits some ms, or until the sender is closed. */
  const pause = (ms: number): Promise<void> =>
    delay(ms, undefined, { signal: stopping.signal, ref: false }).catch(() => {})

  async function sendAll(stem: string, interval: Interval): Promise<void> {
    if (taken.stem !== stem) taken = { stem, events: 0 }
    while (taken.events < interval.groups.length) {
      const groups = interval.groups.slice(taken.events, taken.events + batch)
      await receiver.send([...eventsOf({ ...interval, groups })])
      counts.sent += groups.length
      taken.events += groups.length
      await pause(PAUSE)
    }
  }

  /** Sends the oldest interval. Resolves with false if there is none. */
  async function sendNext(): Promise<boolean> {
    const found = await spool.next()
    if (found === undefined) return false
    await sendAll(found.stem, found.interval)
    await spool.sent(found.stem)
    taken = { stem: '', events: 0 }
    if (counts.problem !== undefined) log.info({}, 'the receiver of usage takes events again')
    counts.problem = undefined
    counts.sentTo = found.interval.to
    waited = FIRST_WAIT
    return true
  }

  async function goOn(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        more = false
        if ((await sendNext()) || more) continue
        await new Promise<void>((resolve) => {
          proceed = resolve
        })
      } catch (error) {
        await pause(refused(error as Error))
      }
    }
  }

  /** Counts a batch that was not taken. Returns how long to wait, in ms. */
  function refused(error: Error): number {
    counts.failed++
    const { message } = error
    if (counts.problem === undefined)
      log.warn(
        { error: message },
        'the receiver of usage does not take events; they wait on disk and are sent again',
      )
    counts.problem = message
    if (error instanceof NotTaken && error.tooLarge && batch > 1) {
      batch = Math.ceil(batch / 2)
      return PAUSE
    }
    waited = Math.min(waited * 2, LONGEST_WAIT)
    return Math.max(error instanceof NotTaken ? (error.after ?? 0) : 0, waited * (0.5 + Math.random() / 2))
  }

  function wake(): void {
    more = true
    proceed()
  }

  const running = goOn()
  return {
    counts,
    /** Looks for another interval. */
    wake,
    /**
     * Stops. What is left stays in the spool.
     *
     * @param patience how long it still sends, in ms
     */
    async close(patience: number): Promise<void> {
      const until = performance.now() + patience
      while (spool.read().waiting > 0 && counts.problem === undefined && performance.now() < until) {
        wake()
        await delay(20)
      }
      stopping.abort()
      wake()
      await receiver.close()
      await running
    },
  }
}
