import type { Snapshot } from './snapshot.js'

/** What `GET /config` shows. */
export interface ConfigStatus {
  readonly file: string
  readonly hash: string
  /** ISO 8601. */
  readonly loadedAt: string
  readonly lastError: { readonly at: string; readonly messages: readonly string[] } | null
  /** What differs from the snapshot before: `services.payments.limits.free: 10/min -> 20/min`. Secrets masked. */
  readonly changed: readonly string[]
}

export type ReloadTrigger = 'file' | 'signal' | 'admin'
export type ReloadResult = 'applied' | 'rejected' | 'unchanged'

export interface ReloadEvent {
  readonly result: ReloadResult
  readonly trigger: ReloadTrigger
  readonly snapshot: Snapshot
  readonly previous: Snapshot
  readonly messages: readonly string[]
}

/** The configuration in force, and the way to the next one. */
export interface ConfigSource {
  current(): Snapshot
  status(): ConfigStatus
  reload(trigger: ReloadTrigger): Promise<{ result: ReloadResult; messages: readonly string[] }>
  close(): Promise<void>
}

export interface ConfigSourceOptions {
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  /** Unix ms. */
  readonly now?: () => number
  readonly onReload?: (event: ReloadEvent) => void
  readonly pollMs?: number
}

/** Rejects with an Error that carries all messages when the first load fails. */
export declare function openConfig(options: ConfigSourceOptions): Promise<ConfigSource>
