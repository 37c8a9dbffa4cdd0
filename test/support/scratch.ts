import { accessSync, constants, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** Free bytes that an in-memory file system must have to be used: an installed copy takes 60 MB. */
const ROOM = 512 * 2 ** 20

/** The in-memory file system that every Linux has; undefined if it is missing, small or not writable. */
export const IN_MEMORY = hasRoom('/dev/shm') ? '/dev/shm' : undefined

function hasRoom(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    const { bavail, bsize } = statfsSync(path)
    return bavail * bsize >= ROOM
  } catch {
    return false
  }
}

/**
 * Makes a folder for thousands of small files, and removes it when the test ends. It is in memory if possible: on a disk, to write and
 * remove an installed copy costs several seconds of CPU.
 */
export function scratchFolder(t: Test, prefix: string): string {
  const folder = mkdtempSync(join(IN_MEMORY ?? tmpdir(), prefix))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
