import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

/**
 * Runs a script of this repository to its end, with its output as comments of the test. The script judges itself; the test passes when it
 * exits with 0.
 *
 * @param script relative to the root
 */
export async function expectToHold(t: Test, script: string, ...args: string[]): Promise<void> {
  const file = fileURLToPath(new URL(`../../${script}`, import.meta.url))
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  // A test that times out runs no teardown.
  const orphaned = () => child.kill('SIGKILL')
  process.once('exit', orphaned)
  const lines: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    t.comment(line)
  })
  const [code] = await once(child, 'close')
  process.off('exit', orphaned)
  // The last output is all that is left of a run that nobody watched.
  t.equal(
    code === 0 ? 'held' : `${lines.slice(-40).join('\n')}\nexit code ${code}`,
    'held',
    `${script} ${args.join(' ')}`,
  )
}
