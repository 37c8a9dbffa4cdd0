import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { newSpanId, newTraceId, type Recording } from '../record/recording.js'
import {
  type ParentContext,
  parseTraceparent,
  parseTracestate,
  RANDOM,
  SAMPLED,
  type TraceContext,
} from '../record/trace-context.js'

/** What is said of sampling. */
export interface Sampling {
  /** 0 to 1: share of the requests of which nobody whose word counts has decided. */
  readonly sample: number
  /** Whose decision is followed. */
  readonly parent: 'trusted' | 'always' | 'never'
  /** Requests a second that are recorded at most. */
  readonly maxPerSecond: number
}

/** A request, as far as it takes part in the decision. */
export interface Incoming {
  readonly snapshot: Pick<Snapshot, 'isTrustedProxy'>
  readonly headers: { readonly traceparent: string | undefined; readonly tracestate: string | undefined }
  /** The socket's remote address. */
  readonly peer: string
  /** `performance.now()` at accept. */
  readonly started: number
}

/** What the one who accepted it knows besides. Asked only when the request is recorded. */
export type Details = Pick<Recording, 'scheme' | 'authority' | 'version' | 'userAgent'>

export interface Sampler {
  /**
   * Decides whether a request is recorded. One that is not keeps the trace of its caller, if that is valid.
   *
   * @param details what else is written down of it, asked of `source`
   */
  begin<R extends Incoming, S>(
    request: R,
    source: S,
    details: (request: R, source: S) => Details,
  ): TraceContext | undefined
  /** From now on. */
  use(sampling: Sampling): void
}

/**
 * Who decides: a caller's `traceparent` where its word counts, else chance. The share is not a function of the trace id,
 * which a caller could choose so that it is always recorded.
 *
 * @param overRate told of each request that would be recorded if there were not so many
 * @param random gives numbers from 0 to 1, 1 excluded
 */
export function createSampler(
  initial: Sampling,
  overRate: () => void,
  random: () => number = Math.random,
): Sampler {
  let sampling = initial
  /** Requests that may be recorded at once: up to those of a second. */
  let tokens = initial.maxPerSecond
  let filledAt = 0
  let epoch = performance.timeOrigin

  function isWanted({ snapshot, peer }: Incoming, parent: ParentContext | undefined): boolean {
    const { sample, parent: followed } = sampling
    if (
      parent !== undefined &&
      (followed === 'always' || (followed === 'trusted' && snapshot.isTrustedProxy(peer)))
    ) {
      return (parent.flags & SAMPLED) !== 0
    }
    return sample > 0 && random() < sample
  }

  function hasRoom(now: number): boolean {
    const { maxPerSecond } = sampling
    tokens = Math.min(maxPerSecond, tokens + ((now - filledAt) / 1000) * maxPerSecond)
    filledAt = now
    if (tokens < 1) {
      overRate()
      return false
    }
    tokens--
    return true
  }

  /** The process's clock runs on when the system's is set, so its zero is moved along. `Date.now()` cuts off up to 1 ms. */
  function epochAt(now: number): number {
    const ahead = Date.now() - (epoch + now)
    if (ahead > 1 || ahead < -2) epoch += ahead
    return epoch
  }

  return {
    begin(request, source, details) {
      const { traceparent, tracestate } = request.headers
      if (traceparent === undefined && sampling.sample === 0) return undefined
      const parent = traceparent === undefined ? undefined : parseTraceparent(traceparent)
      if (!isWanted(request, parent) || !hasRoom(request.started)) {
        if (parent === undefined) return undefined
        return { traceId: parent.traceId, spanId: parent.spanId, sampled: false, recording: undefined }
      }
      return {
        traceId: parent?.traceId ?? newTraceId(),
        spanId: newSpanId(),
        sampled: true,
        recording: {
          ...details(request, source),
          parentSpanId: parent?.spanId,
          state: parent === undefined || tracestate === undefined ? undefined : parseTracestate(tracestate),
          flags: SAMPLED | (parent === undefined ? 0 : parent.flags & RANDOM),
          epoch: epochAt(performance.now()),
          started: request.started,
          limitAt: 0,
          grpcStatus: undefined,
          calls: [],
        },
      }
    },
    use(next) {
      sampling = next
    },
  }
}
