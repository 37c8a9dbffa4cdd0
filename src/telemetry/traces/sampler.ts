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

/** Settings for sampling. */
export interface Sampling {
  /** Share of the requests without a trusted decision that is recorded, 0 to 1. */
  readonly sample: number
  /** Clients whose decision is followed. */
  readonly parent: 'trusted' | 'always' | 'never'
  /** Most requests that are recorded in a second. */
  readonly maxPerSecond: number
}

/** The parts of a request that the decision uses. */
export interface Incoming {
  readonly snapshot: Pick<Snapshot, 'isTrustedProxy'>
  readonly headers: { readonly traceparent: string | undefined; readonly tracestate: string | undefined }
  /** Remote address of the socket. */
  readonly peer: string
  /** `performance.now()` at accept. */
  readonly started: number
}

/** Further data that the listener knows. Read only when the request is recorded. */
export type Details = Pick<Recording, 'scheme' | 'authority' | 'version' | 'userAgent'>

export interface Sampler {
  /**
   * Decides whether a request is recorded. A request that is not recorded keeps the trace of its client, if valid.
   *
   * @param details reads further data to record from `source`
   */
  begin<R extends Incoming, S>(
    request: R,
    source: S,
    details: (request: R, source: S) => Details,
  ): TraceContext | undefined
  /** Sets the sampling from now on. */
  use(sampling: Sampling): void
}

/**
 * Creates a sampler. A trusted client's `traceparent` decides, else chance. The share does not depend on the trace id:
 * a client could choose an id that is always recorded.
 *
 * @param overRate called for each request that is not recorded because there are too many
 * @param random returns numbers from 0 to 1, 1 excluded
 */
export function createSampler(
  initial: Sampling,
  overRate: () => void,
  random: () => number = Math.random,
): Sampler {
  let sampling = initial
  /** Tokens for requests to record: at most those of a second. */
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

  /**
   * Returns the epoch of the steady clock. The steady clock runs on when the system clock is set, so its zero moves.
   * `Date.now()` cuts off up to 1 ms.
   */
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
          hooks: [],
          calls: [],
        },
      }
    },
    use(next) {
      sampling = next
    },
  }
}
