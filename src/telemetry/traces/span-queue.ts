import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import type { OtlpSender } from '../export/otlp-http.js'

/** Why spans were not sent: too many waited, the collector did not take them, or more requests than are recorded. */
export type DropReason = 'queue' | 'export' | 'rate'

export interface SpanQueue {
  /** All of them or none, so that no trace lacks a part. Never waits. */
  add(spans: readonly ReadableSpan[]): void
  /** Sends what is left, as far as that goes within so many ms. */
  close(ms: number): Promise<void>
}

export interface SpanQueueOptions {
  readonly sender: Pick<OtlpSender<ReadableSpan[]>, 'send'>
  /** Longest wait of a span until it is sent, ms. */
  readonly delayMs?: number | undefined
  readonly onSent: (spans: number) => void
  readonly onDropped: (reason: DropReason, spans: number, error?: Error) => void
}

/** Spans that wait at most, together with those under way some MB. */
export const MAX_WAITING = 4096
/** Spans of one push: they are made into bytes in one go, which holds up the requests for so long. */
export const BATCH = 128
const DELAY_MS = 1000

/** One push at a time. While a collector is slow or away spans pile up to the bound, and the rest is dropped. */
export function createSpanQueue({
  sender,
  delayMs = DELAY_MS,
  onSent,
  onDropped,
}: SpanQueueOptions): SpanQueue {
  let waiting: ReadableSpan[] = []
  let sending = false
  let timer: NodeJS.Timeout | undefined
  let soon: NodeJS.Immediate | undefined
  let idle: (() => void) | undefined
  let closing = false

  function schedule(): void {
    if (sending || waiting.length === 0) return
    if (closing || waiting.length >= BATCH) soon ??= setImmediate(push)
    else if (timer === undefined) {
      timer = setTimeout(push, delayMs)
      timer.unref()
    }
  }

  function push(): void {
    clearTimeout(timer)
    clearImmediate(soon)
    timer = undefined
    soon = undefined
    const batch = waiting.slice(0, BATCH)
    waiting = waiting.slice(BATCH)
    sending = true
    sender.send(batch, (error) => {
      sending = false
      if (error === undefined) onSent(batch.length)
      else onDropped('export', batch.length, error)
      if (waiting.length === 0) idle?.()
      schedule()
    })
  }

  return {
    add(spans) {
      if (waiting.length + spans.length > MAX_WAITING) {
        onDropped('queue', spans.length)
        return
      }
      for (const span of spans) waiting.push(span)
      schedule()
    },
    async close(ms) {
      closing = true
      clearTimeout(timer)
      timer = undefined
      if (!sending && waiting.length === 0) return
      let late: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        idle = resolve
        late = setTimeout(resolve, ms)
        schedule()
      })
      clearTimeout(late)
      clearImmediate(soon)
      if (waiting.length > 0) onDropped('queue', waiting.length)
      waiting = []
    },
  }
}
