import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import type { OtlpSender } from '../export/otlp-http.js'

/**
 * Reasons for unsent spans: too many waited, the collector did not accept the push, or more requests than the rate allows.
 */
export type DropReason = 'queue' | 'export' | 'rate'

export type SpanQueue = ReturnType<typeof createSpanQueue>

export interface SpanQueueOptions {
  readonly sender: Pick<OtlpSender<ReadableSpan[]>, 'send'>
  /** Longest time that a span waits to be sent, in ms. */
  readonly delayMs?: number | undefined
  readonly onSent: (spans: number) => void
  readonly onDropped: (reason: DropReason, spans: number, error?: Error) => void
}

/** Most spans that wait; together with those in flight, a few MB. */
export const MAX_WAITING = 4096
/** Spans in one push: they are serialized at once, which blocks requests for that time. */
export const BATCH = 128
const DELAY_MS = 1000

/**
 * Creates a queue that makes one push at a time. While a collector is slow or away, spans pile up to the bound; further
 * ones are dropped.
 */
export function createSpanQueue({ sender, delayMs = DELAY_MS, onSent, onDropped }: SpanQueueOptions) {
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
      timer = setTimeout(push, delayMs).unref()
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
    /** Adds all spans or none, so that no trace lacks a part. Never waits. */
    add(spans: readonly ReadableSpan[]): void {
      if (waiting.length + spans.length > MAX_WAITING) {
        onDropped('queue', spans.length)
        return
      }
      for (const span of spans) waiting.push(span)
      schedule()
    },
    /** Sends the remaining spans, as far as possible within `ms` ms. */
    async close(ms: number): Promise<void> {
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
