import { readFileSync } from 'node:fs'
import { readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'

/** Says which process writes a folder of the spool, so that another one takes over what a dead one has left. */

const FILE = 'owner.json'
/** Age after which the folder of a process on another machine counts as left, in ms. Its owner touches it far more often. */
const LEFT_AFTER = 600_000

interface Owner {
  readonly host: string
  readonly boot: string
  readonly pid: number
  /** Start of the process in ticks since the boot: another process may have its pid by now. */
  readonly start: string
}

/** Writes that this process owns a folder. */
export async function claim(folder: string): Promise<void> {
  const owner: Owner = {
    host: hostname(),
    boot: bootId(),
    pid: process.pid,
    start: startOf(process.pid) ?? '',
  }
  await writeFile(join(folder, FILE), JSON.stringify(owner))
}

/** Says that the owner still lives. */
export async function touch(folder: string): Promise<void> {
  const now = new Date()
  await utimes(join(folder, FILE), now, now)
}

/** Returns true if no process writes the folder any more. */
export async function isLeft(folder: string, now = Date.now()): Promise<boolean> {
  try {
    const file = join(folder, FILE)
    const owner = JSON.parse(await readFile(file, 'utf8')) as Owner
    if (owner.host === hostname()) return owner.boot !== bootId() || startOf(owner.pid) !== owner.start
    return now - (await stat(file)).mtimeMs > LEFT_AFTER
  } catch {
    // It has just been made, or its process ended before it could write.
    return stat(folder).then(
      ({ mtimeMs }) => now - mtimeMs > LEFT_AFTER,
      () => false,
    )
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return ''
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
