import { writeSync } from 'node:fs'
import { moduleBehind } from '../extension/modules.js'
import { scrub } from '../telemetry/logs/log.js'

/**
 * Handles errors that no code caught. An unhandled rejection concerns one request, and the gateway continues. So does an
 * exception in a timer or listener of an extension: nothing of the gateway was under way. After any other uncaught exception
 * the state of the process is unknown: it exits, and its supervisor starts another.
 */
export function surviveFaults(): void {
  process.on('unhandledRejection', (reason) => say('error', 'a rejected promise was not handled', reason))
  process.on('uncaughtException', (error) => {
    const module = moduleBehind(error)
    if (module !== undefined) {
      say('error', `an exception of the extension in ${module} was not caught`, error)
      return
    }
    say('fatal', 'an exception was not caught; exiting', error)
    process.exit(1)
  })
}

/** Writes a line at once and without the log, which may be what is broken. */
function say(level: 'error' | 'fatal', msg: string, error: unknown): void {
  const err =
    error instanceof Error
      ? { type: error.name, message: error.message, stack: error.stack }
      : { type: typeof error, message: String(error) }
  try {
    writeSync(2, scrub(`${JSON.stringify({ level, time: new Date().toISOString(), err, msg })}\n`))
  } catch {
    // Without a reader of stderr, there is nowhere left to report to.
  }
}
