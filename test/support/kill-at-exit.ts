import type { ChildProcess } from 'node:child_process'

const children = new Map<ChildProcess, NodeJS.Signals>()
process.on('exit', () => {
  for (const [child, signal] of children) child.kill(signal)
})

/** Ends the child with this process: a test that crashes or times out runs no teardown. */
export function killAtExit(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): void {
  children.set(child, signal)
  child.once('exit', () => children.delete(child))
}
