import type { Families } from '../metrics/metric-definitions.js'
import type { DropReason } from './span-queue.js'

/** Outcomes of spans since the start. */
export interface SpanCounts {
  readonly sent: number
  /** Failed pushes. */
  readonly failed: number
  readonly dropped: Readonly<Record<DropReason, number>>
}

export function showSpans(
  { spansExported, spansDropped, otlpFailures }: Families,
  { sent, failed, dropped }: SpanCounts,
): void {
  spansExported.set(sent)
  for (const [reason, count] of Object.entries(dropped)) spansDropped.set(count, reason)
  otlpFailures.set(failed, 'traces')
}
