import { existsSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { until } from './process.mjs'

/** Returns the arguments of `startTidegate` that `leftAfterGc` needs. */
export function measurable(dir) {
  process.env.BENCH_MEMORY = path.join(dir, 'memory.json')
  return ['--expose-gc', '--import', fileURLToPath(new URL('gc-on-signal.mjs', import.meta.url))]
}

/** Returns `process.memoryUsage()` of the gateway after a garbage collection. */
export async function leftAfterGc({ child }) {
  const file = process.env.BENCH_MEMORY
  rmSync(file, { force: true })
  child.kill('SIGWINCH')
  await until('garbage is collected', 60_000, () => existsSync(file))
  return JSON.parse(readFileSync(file, 'utf8'))
}
