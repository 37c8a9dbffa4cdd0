/**
 * Loaded before a gateway whose memory is measured (`--expose-gc --import`): at SIGWINCH, which means nothing to a server, it
 * collects all garbage and writes what is left to the file in BENCH_MEMORY.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

process.on('SIGWINCH', async () => {
  for (let i = 0; i < 4; i++) {
    globalThis.gc()
    // What only a finalizer lets go of goes with the next.
    await sleep(100)
  }
  const file = process.env.BENCH_MEMORY
  writeFileSync(`${file}.new`, JSON.stringify(process.memoryUsage()))
  renameSync(`${file}.new`, file)
})
