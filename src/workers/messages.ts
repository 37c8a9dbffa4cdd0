import type { Included } from '../config/load/include.js'
import type { ReloadResult, ReloadTrigger } from '../config/load/recent-reloads.js'
import type { ConfigStatus } from '../config/load/reload.js'
import type { DecidedBy, Decision, Levels, Slot } from '../limiter/limiter.js'
import type { Reading } from '../telemetry/metrics/process-counts.js'

/**
 * Questions between the primary and its workers, besides those of the admin API (`QUESTIONS` in `admin/server.ts`). A
 * new one is a line here and an answer in `worker.ts` or `primary.ts`; the compiler finds the rest. All values are JSON
 * data.
 */

/** Raised when a question changes its meaning: after an upgrade, newer workers meet an older primary. */
export const PROTOCOL = 3

/** A configuration that the primary has accepted. */
export interface GoodConfig {
  readonly text: string
  /** Missing from a primary of an older version, in which nothing is included. */
  readonly included?: Included
  /**
   * Hash of the whole, including the files that it names: a certificate may be renewed while the text stays the same.
   */
  readonly hash: string
  /** Unix ms. */
  readonly loadedAt: number
  /** Why the file was rejected since; null if it was not. Missing from a primary of an older version. */
  readonly lastError?: ConfigStatus['lastError']
}

export interface Reloaded extends GoodConfig {
  readonly trigger: ReloadTrigger
  /** Result in the primary. */
  readonly result: ReloadResult
}

/** Data that a worker gets at its start. */
export interface Welcome {
  readonly place: number
  /** Number of workers. */
  readonly workers: number
  /** Id of the gateway, which all workers share. Missing from a primary of an older version. */
  readonly gateway?: string
  readonly file: string
  /**
   * Configuration that all workers of this generation have started with: settings that are read only at a start are the
   * same in all of them.
   */
  readonly started: GoodConfig
  /** Configuration in force. */
  readonly current: GoodConfig
  /** Without Redis: the content of the shared maps, by name, then by key. */
  readonly maps: readonly (readonly [map: string, texts: readonly (readonly [key: string, text: string])[]])[]
  /** Upstreams that operators have drained. */
  readonly drained: readonly (readonly [service: string, address: string])[]
}

/** The subject of a count: service, tier and consumer, as the numbers that a configuration gives to its parts. */
export interface CountSubject {
  /** Hash of the configuration. */
  readonly config: string
  readonly service: number
  readonly tier: number
  readonly candidate: boolean
  readonly consumer: string
  readonly levels?: Levels | undefined
}

export interface Take extends CountSubject {
  readonly cost: number
  /** True if the decision has to show the state of the limits even if it allows the request. */
  readonly shows: boolean
}

export interface Settle extends CountSubject {
  readonly cost: number
  readonly decidedBy: DecidedBy
  readonly at: number
  readonly slotAt: number
  readonly quota: number
  readonly slot: Slot
}

/** Questions to a worker. */
export type OfWorker = {
  /** Answers with the hash now in force. Sent after every attempt, since SIGHUP also reopens the access log. */
  reload: [Reloaded, { hash: string; error?: string }]
  metrics: [null, Reading]
  /** Answered at once; the worker exits when it has drained. */
  drain: [{ delayMs: number }, null]
  /** Without Redis: a value of a shared map was set or deleted. */
  put: [{ map: string; key: string; text: string | null }, null]
}

/** Questions to the primary. */
export type OfPrimary = {
  hello: [{ protocol: number }, Welcome]
  /** `addresses` is missing from a worker of an older version. An older primary reads `address`. */
  serving: [{ address: string; addresses?: readonly string[]; hash: string }, null]
  /** The start failed for good; holds a reason for the operator. */
  failed: [{ message: string }, null]
  /** Last counts of a worker that has drained. */
  farewell: [Reading, null]
  /** Without Redis the primary counts for all workers: decisions in the order of the questions. */
  take: [readonly Take[], readonly Decision[]]
  /** Answers with the time at which the slot was last taken. */
  settle: [Settle, number]
  /** Without Redis: API keys that were used, and in which Unix minute. */
  keysUsed: [{ ids: readonly string[]; minute: number }, null]
}
