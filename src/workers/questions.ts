import type { ReloadResult, ReloadTrigger } from '../config/reload.js'
import type { Reading } from '../telemetry/reading.js'

/**
 * What the primary and its workers ask each other. A new question is a line here and an answer in `worker.ts` or
 * `primary.ts`; the compiler finds the rest. Everything is data that JSON keeps.
 */

/** Raised when a question changes its meaning: after an upgrade, workers of a newer version meet an older primary. */
export const PROTOCOL = 1

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
  readonly file: string
  readonly config: GoodConfig
}

/** Of a worker. */
export type OfWorker = {
  /** Answers with the hash that is in force now. Asked after every attempt, since SIGHUP opens the access log anew, too. */
  reload: [Reloaded, { hash: string; error?: string }]
  metrics: [null, Reading]
  /** Answered at once; the worker's end is the end of it. */
  drain: [{ delayMs: number }, null]
}

/** Of the primary. */
export type OfPrimary = {
  hello: [{ protocol: number }, Welcome]
  serving: [{ address: string; hash: string }, null]
  /** The start failed, for good: a reason for the operator. */
  failed: [{ message: string }, null]
  /** The last words of a worker that has drained. */
  farewell: [Reading, null]
}
