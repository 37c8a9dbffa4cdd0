import { constants } from 'node:os'

/**
 * Resolves at the first SIGTERM or SIGINT. The next one ends the process at once with 128 + its number, because its
 * sender does not want to wait. Call it before the start: process 1 of a container has no default handler for either
 * signal.
 */
export function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let stopping = false
    const stop = (signal: NodeJS.Signals) => {
      if (stopping) process.exit(128 + constants.signals[signal])
      stopping = true
      resolve(signal)
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
  })
}
