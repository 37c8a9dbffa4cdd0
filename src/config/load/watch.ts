import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'

export interface WatchOptions {
  /** The state of the file that is already known, by `signatureOf`. */
  readonly known: string
  /** Ms between two looks when nothing is heard: for file systems and symbolic links that send no events. */
  readonly pollMs: number
  /** Ms for which a file has to stay as it is before it is taken for whole. */
  readonly stableMs: number
  readonly onChange: () => void
}

/** A file that is gone may be on its way back: editors move it away before they write the new one. */
const PATIENCE_WHEN_GONE = 4

/** What tells one state of a file from another, whatever way it was written. Follows symbolic links. */
export async function signatureOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true })
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown'
  }
}

/**
 * Calls back once a file has changed and is at rest again. The directory is watched, not the file: a file that is
 * replaced is another one to the operating system. The poll finds what the directory does not tell.
 */
export function watchFile(file: string, options: WatchOptions): { close(): void } {
  const { pollMs, stableMs, onChange } = options
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
    const now = await signatureOf(file)
    looking = false
    if (closed) return
    if (now === known) {
      pending = undefined
      return
    }
    rounds = now === pending ? rounds + 1 : 0
    pending = now
    if (rounds < (now.includes(':') ? 1 : PATIENCE_WHEN_GONE)) return soon()
    known = now
    pending = undefined
    onChange()
  }

  let watcher: FSWatcher | undefined
  try {
    watcher = watch(dirname(file), { persistent: false }, soon)
    watcher.on('error', () => watcher?.close())
  } catch {
    // No more watches to be had, or no such directory: the poll alone does it.
  }
  const poll = setInterval(look0, pollMs).unref()
  function look0() {
    // While something is pending its own timer looks; a poll between would take it for stable too early.
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
