/**
 * Loaded before a gateway whose memory is measured (`--expose-gc --import`): at SIGWINCH, which means nothing to a server, it
 * collects all garbage and writes what is left to the file in BENCH_MEMORY.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { getHeapStatistics } from 'node:v8'

process.on('SIGWINCH', async () => {
  for (let i = 0; i < 4; i++) {
    globalThis.gc()
    // Memory that only a finalizer frees goes with the next collection.
    await sleep(100)
  }
  const file = process.env.BENCH_MEMORY
  const { total_physical_size: heapPages } = getHeapStatistics()
  writeFileSync(
    `${file}.new`,
    // V8 keeps pages of its heap for later, as many as its young generation once needed: up to 48 MiB that say nothing about a leak.
    JSON.stringify({
      ...process.memoryUsage(),
      heapPages,
      outsideHeap: anonymous() - heapPages,
    }),
  )
  renameSync(`${file}.new`, file)
})

/** Bytes of the process's own, in memory or swapped out, without the pages of Node's program, which the kernel may drop. */
function anonymous() {
  const status = readFileSync('/proc/self/status', 'utf8')
  const kib = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1])
  return (kib('RssAnon') + kib('VmSwap')) * 1024
}
