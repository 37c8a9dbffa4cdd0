export type ReloadTrigger = 'file' | 'signal' | 'admin'
export type ReloadResult = 'applied' | 'rejected' | 'unchanged'

export interface ReloadOutcome {
  readonly result: ReloadResult
  /** Errors of a rejected reload; otherwise warnings, and changes that only take effect at the next start. */
  readonly messages: readonly string[]
}

/** One reload, bounded so that any number of them can be kept and shown. */
export interface Reload {
  /** ISO 8601. */
  readonly at: string
  readonly result: ReloadResult
  /** Hash of the configuration in force after it. */
  readonly hash: string
  readonly by: ReloadTrigger
  /** Name of the token that asked for it; null: the file changed, or the process got a signal. */
  readonly who: string | null
  /** Differences from the configuration before, of an applied one. Secrets are masked. */
  readonly changed: readonly string[]
  /** Errors of a rejected reload, otherwise warnings. */
  readonly messages: readonly string[]
}

export interface Attempt extends ReloadOutcome, Pick<Reload, 'hash' | 'by' | 'who' | 'changed'> {
  /** Unix ms. */
  readonly at: number
  /** True if the attempt before was rejected and this one was not. */
  readonly repaired: boolean
}

const MOST_RELOADS = 20
const MOST_LINES = 20
const LONGEST_LINE = 300

/**
 * Adds a reload to a list of the latest, newest first. Leaves out what is no news, or a job that reloads every minute
 * would push the changes out: a file that is as it was, and a broken one with the same errors as last time.
 */
export function withReload(
  list: readonly Reload[],
  { repaired, at, result, hash, by, who, changed, messages }: Attempt,
): readonly Reload[] {
  if (result === 'unchanged' && !repaired) return list
  const bounded = firstLines(messages, MOST_LINES).map(cut)
  const [last] = list
  if (result === 'rejected' && last?.result === result && last.messages.join() === bounded.join()) return list
  const reload: Reload = {
    at: new Date(at).toISOString(),
    result,
    hash,
    by,
    who,
    changed: firstLines(changed, MOST_LINES).map(cut),
    messages: bounded,
  }
  return [reload, ...list].slice(0, MOST_RELOADS)
}

/** Cuts a list of lines. The last line says how many are left out. */
export function firstLines(lines: readonly string[], most: number): readonly string[] {
  return lines.length <= most ? lines : [...lines.slice(0, most), `and ${lines.length - most} more`]
}

function cut(line: string): string {
  return line.length <= LONGEST_LINE ? line : `${line.slice(0, LONGEST_LINE - 1)}…`
}
