import { readFileSync, readlinkSync } from 'node:fs'
import { readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'

/** Says which process writes a folder of the spool, so that another one takes over what a dead one has left. */

const FILE = 'owner.json'
const RELEASED = 'released'
/** Age after which the folder of a process elsewhere counts as left, in ms. Its owner touches it far more often. */
const LEFT_AFTER = 600_000
/** How long this process must have seen that nobody touches it, in ms: a clock may jump. */
const SEEN_FOR = 120_000

interface Owner {
  /** Machine, its boot, and the container if it has pids of its own: where `pid` means something. */
  readonly place: string
  readonly pid: number
  /** Start of the process in ticks since the boot: another process may have its pid by now. Or RELEASED. */
  readonly start: string
}

/** Writes that this process owns a folder. */
export const claim = (folder: string) => writeOwner(folder, startOf(process.pid) ?? '')

/** Writes that nobody owns a folder any more, though this process may go on. */
export const release = (folder: string) => writeOwner(folder, RELEASED)

async function writeOwner(folder: string, start: string): Promise<void> {
  const owner: Owner = { place: placeOf(), pid: process.pid, start }
  await writeFile(join(folder, FILE), JSON.stringify(owner))
}

/** Says that the owner still lives. Rejects when the folder is not its own any more. */
export async function touch(folder: string): Promise<void> {
  const now = new Date()
  await utimes(join(folder, FILE), now, now)
}

/** Returns a function that says whether no process writes a folder any more. */
export function createWatch() {
  /** Folders of processes elsewhere: when they were touched, and since when this process knows (`performance.now()`). */
  const seen = new Map<string, { readonly touched: number; readonly since: number }>()

  function isUntouched(folder: string, touched: number, now: number, at: number): boolean {
    const known = seen.get(folder)
    if (known?.touched !== touched) seen.set(folder, { touched, since: at })
    else if (now - touched > LEFT_AFTER && at - known.since >= SEEN_FOR) return seen.delete(folder)
    return false
  }

  return async (folder: string, now = Date.now(), at = performance.now()): Promise<boolean> => {
    try {
      const file = join(folder, FILE)
      const owner = JSON.parse(await readFile(file, 'utf8')) as Owner
      if (owner.start === RELEASED) return true
      if (owner.place === placeOf()) return startOf(owner.pid) !== owner.start
      return isUntouched(folder, (await stat(file)).mtimeMs, now, at)
    } catch {
      // It has just been made, or its process ended before it could write.
      return stat(folder).then(
        ({ mtimeMs }) => isUntouched(folder, mtimeMs, now, at),
        () => false,
      )
    }
  }
}

function placeOf(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    return `${hostname()} ${boot} ${readlinkSync('/proc/self/ns/pid')}`
  } catch {
    return hostname()
  }
}

/** Returns when a process started; undefined if there is none. Empty where the system does not tell, as on macOS. */
function startOf(pid: number): string | undefined {
  try {
    // The name in brackets may hold blanks; the start is field 22.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    try {
      process.kill(pid, 0)
      return process.platform === 'linux' ? undefined : ''
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EPERM' && process.platform !== 'linux'
        ? ''
        : undefined
    }
  }
}
