import type { ReloadResult, ReloadTrigger } from '../config/load/reload.js'
import type { DecidedBy, Decision, Levels, Slot } from '../limiter/limiter.js'
import type { DecisionHere } from '../telemetry/decisions/all-gateways-decisions.js'
import type { DecisionQuestion } from '../telemetry/decisions/decision-data.js'
import type { Seen } from '../telemetry/decisions/last-seen.js'
import type { Reading } from '../telemetry/metrics/process-counts.js'
import type { TopQuestion, TopReading } from '../telemetry/top/top.js'
import type { GuardState } from '../upstream/guard/guard.js'
import type { UpstreamState } from '../upstream/pool/state.js'

/**
 * What the primary and its workers ask each other. A new question is a line here and an answer in `worker.ts` or
 * `primary.ts`; the compiler finds the rest. Everything is data that JSON keeps.
 */

/** Raised when a question changes its meaning: after an upgrade, workers of a newer version meet an older primary. */
export const PROTOCOL = 3

/** A configuration as the primary has found it good. */
export interface GoodConfig {
  readonly text: string
  /** Of the whole, with the files that it names: a certificate may be renewed and the text stay the same. */
  readonly hash: string
  /** Unix ms. */
  readonly loadedAt: number
}

export interface Reloaded extends GoodConfig {
  readonly trigger: ReloadTrigger
  /** What came of it in the primary. */
  readonly result: ReloadResult
}

/** What a worker is told at its start. */
export interface Welcome {
  readonly place: number
  /** How many there are. */
  readonly workers: number
  readonly file: string
  /** What all workers of its generation have started with: what is read at a start only is the same in all of them. */
  readonly started: GoodConfig
  /** What is in force. */
  readonly current: GoodConfig
  /** Without Redis, what the maps hold that all share: by name, then by key. */
  readonly maps: readonly (readonly [map: string, texts: readonly (readonly [key: string, text: string])[]])[]
  /** Upstreams that were drained by hand. */
  readonly drained: readonly (readonly [service: string, address: string])[]
}

/** What is counted, and of whom, in numbers that a configuration gives to its parts. */
export interface Whose {
  /** Hash. */
  readonly config: string
  readonly service: number
  readonly tier: number
  readonly candidate: boolean
  readonly consumer: string
  readonly levels?: Levels | undefined
}

export interface Take extends Whose {
  readonly cost: number
}

export interface Settle extends Take {
  readonly decidedBy: DecidedBy
  readonly at: number
  readonly slotAt: number
  readonly quota: number
  readonly slot: Slot
}

/** Of a worker. */
export type OfWorker = {
  /** Answers with the hash that is in force now. Asked after every attempt, since SIGHUP opens the access log anew, too. */
  reload: [Reloaded, { hash: string; error?: string }]
  metrics: [null, Reading]
  upstreams: [null, readonly UpstreamState[]]
  /** Who is limited now, and the like. */
  top: [TopQuestion, TopReading]
  /** What is kept of a request, or of a consumer. */
  decision: [DecisionQuestion, DecisionHere]
  /** By which credential a consumer came last. */
  seen: [string, Seen | null]
  guards: [null, readonly GuardState[]]
  /** What does not work as it should: `RunningGateway.outOfOrder`. */
  outOfOrder: [null, readonly string[]]
  /** An upstream is drained or restored by hand. Null: it has none of that address. */
  upstream: [{ service: string; address: string; state: 'drained' | 'serving' }, UpstreamState | null]
  /** Answered at once; the worker's end is the end of it. */
  drain: [{ delayMs: number }, null]
  /** Without Redis: a value was put into a map that all share, or taken out. */
  put: [{ map: string; key: string; text: string | null }, null]
}

/** Of the primary. */
export type OfPrimary = {
  hello: [{ protocol: number }, Welcome]
  serving: [{ address: string; hash: string }, null]
  /** The start failed, for good: a reason for the operator. */
  failed: [{ message: string }, null]
  /** The last words of a worker that has drained. */
  farewell: [Reading, null]
  /** Without Redis the primary counts for all: decisions in the order of the questions. */
  take: [readonly Take[], readonly Decision[]]
  /** Answers with when the slot was taken last. */
  settle: [Settle, number]
  /** Without Redis: which API keys were used, in which unix minute. */
  keysUsed: [{ ids: readonly string[]; minute: number }, null]
}
