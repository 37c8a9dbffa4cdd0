import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'

export interface WatchOptions {
  /** Known state of the file, from `signatureOf`. */
  readonly known: string
  /** Interval in ms between two polls, for file systems and symbolic links that send no events. */
  readonly pollMs: number
  /** How long a file must be unchanged before it counts as complete, in ms. */
  readonly stableMs: number
  readonly onChange: () => void
  /** Returns the present state. It has more colons when there are more files. Default: `signatureOf`. */
  readonly signature?: (file: string) => Promise<string>
}

/** Checks after which a missing file counts as gone: editors move the old file away before they write the new one. */
const PATIENCE_WHEN_GONE = 4

/** Returns a text that differs between two states of a file, however it was written. Follows symbolic links. */
export async function signatureOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true })
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown'
  }
}

/**
 * Calls `onChange` once a file has changed and is stable again. It watches the directory, because a replaced file is
 * another one to the operating system. `file` may be a pattern whose name has a `*`. The poll finds what the directory does not report.
 */
export function watchFile(file: string, options: WatchOptions): { close(): void } {
  const { pollMs, stableMs, onChange, signature = signatureOf } = options
  let known = options.known
  let pending: string | undefined
  let rounds = 0
  let timer: NodeJS.Timeout | undefined
  let looking = false
  let closed = false

  const soon = () => {
    if (closed || looking || timer !== undefined) return
    timer = setTimeout(look, stableMs).unref()
  }
  const look = async () => {
    timer = undefined
    looking = true
    const now = await signature(file)
    looking = false
    if (closed) return
    if (now === known) {
      pending = undefined
      return
    }
    rounds = now === pending ? rounds + 1 : 0
    pending = now
    const gone = now.split(':').length < known.split(':').length
    if (rounds < (gone ? PATIENCE_WHEN_GONE : 1)) return soon()
    known = now
    pending = undefined
    onChange()
  }

  let watcher: FSWatcher | undefined
  try {
    watcher = watch(dirname(file), { persistent: false }, soon)
    watcher.on('error', () => watcher?.close())
  } catch {
    // The system has no more watches, or the directory does not exist. Polling alone is enough.
  }
  const poll = setInterval(look0, pollMs).unref()
  function look0() {
    // While a change is pending, its own timer checks the file. A poll in between would take the file for stable too
    // early.
    if (!looking && timer === undefined) void look()
  }
  return {
    close() {
      closed = true
      watcher?.close()
      clearInterval(poll)
      clearTimeout(timer)
    },
  }
}
