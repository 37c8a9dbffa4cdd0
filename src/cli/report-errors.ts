import { writeSync } from 'node:fs'
import { scrub } from '../telemetry/logs/log.js'

/**
 * A promise that nobody waited for concerns one request, and the gateway goes on. After an exception that nobody caught
 * the state of the process is unknown: it ends, and whatever supervises it starts another.
 */
export function surviveFaults(): void {
  process.on('unhandledRejection', (reason) => say('error', 'a rejected promise was not handled', reason))
  process.on('uncaughtException', (error) => {
    say('fatal', 'an exception was not caught; exiting', error)
    process.exit(1)
  })
}

/** Written at once and without the log, which may be what is broken. */
function say(level: 'error' | 'fatal', msg: string, error: unknown): void {
  const err =
    error instanceof Error
      ? { type: error.name, message: error.message, stack: error.stack }
      : { type: typeof error, message: String(error) }
  try {
    writeSync(2, scrub(`${JSON.stringify({ level, time: new Date().toISOString(), err, msg })}\n`))
  } catch {
    // Nobody reads stderr; there is nothing left to say it to.
  }
}
