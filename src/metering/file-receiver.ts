import { type FileHandle, open, rename, stat } from 'node:fs/promises'
import type { Receiver } from './http-receiver.js'

interface FileSettings {
  readonly path: string
  /** Bytes from which a new file is begun. */
  readonly size: number
}

/**
 * Opens a file of JSON lines. When it has reached its size, it becomes PATH.1, and PATH.1 becomes PATH.2. Older ones are
 * removed.
 */
export function openFileReceiver({ path, size }: FileSettings): Receiver {
  async function rotate(): Promise<void> {
    const bytes = await stat(path).then(
      (found) => found.size,
      () => 0,
    )
    if (bytes < size) return
    await rename(`${path}.1`, `${path}.2`).catch(() => {})
    await rename(path, `${path}.1`)
  }
  return {
    async send(events) {
      await rotate()
      const handle = await open(path, 'a+', 0o640)
      try {
        const lines = events.map((event) => `${JSON.stringify(event)}\n`).join('')
        await handle.appendFile((await isTorn(handle)) ? `\n${lines}` : lines)
        await handle.datasync()
      } finally {
        await handle.close()
      }
    },
    close: () => Promise.resolve(),
  }
}

/** Returns true if the file ends within a line: the disk was full, or the process was killed. */
async function isTorn(handle: FileHandle): Promise<boolean> {
  const { size } = await handle.stat()
  if (size === 0) return false
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, size - 1)
  return buffer[0] !== 10
}
