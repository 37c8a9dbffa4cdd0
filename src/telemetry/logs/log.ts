import { type Logger, pino } from 'pino'
import { omitUndefined } from '../../common/maps.js'
import { createLineSink, type LineSink } from './line-sink.js'
import { openOutput, wholeWrite } from './output.js'

/** Logs events of the gateway itself: start, reloads, degraded mode, errors. The access log has the requests. */
export interface EventLog extends Pick<LineSink, 'flush' | 'flushSync' | 'dropped' | 'close'> {
  readonly log: Logger
}

export interface LogOptions {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'
  /** Default stderr, so that stdout holds only the access log. */
  readonly destination?: 'stdout' | 'stderr' | (string & {})
  /** Number of this process among several that write to one destination; every line has it. */
  readonly worker?: number | undefined
}

const SECRET_KEYS = [
  'authorization',
  'cookie',
  '["set-cookie"]',
  '["x-api-key"]',
  'password',
  'token',
  'secret',
  'query',
]

/** Creates a log. Throws when the destination is a path that cannot be opened for appending. */
export function createLog(options: LogOptions): EventLog {
  const destination = options.destination ?? 'stderr'
  const sink = createLineSink(openOutput(destination), {
    flushMs: 10,
    maxBytes: 1024 * 1024,
    ...(options.worker === undefined ? {} : { chunkSize: wholeWrite(destination) }),
  })
  const log = pino(
    {
      level: options.level,
      base: options.worker === undefined ? null : { worker: options.worker },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError, error: serializeError },
      redact: {
        paths: SECRET_KEYS.flatMap((key) => (key.startsWith('[') ? [key, `*${key}`] : [key, `*.${key}`])),
        censor: '***',
      },
      hooks: { streamWrite: scrub },
    },
    { write: (line: string) => sink.write(line) },
  )
  return { ...sink, log }
}

/**
 * Serializes only the known fields of an error: libraries attach whole commands to theirs (ioredis: AUTH with its
 * password).
 */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { name: type, message, code, stack } = error as NodeJS.ErrnoException
  return omitUndefined({ type, message, code, stack })
}

/**
 * Characters that change how a terminal or a page shows the text around them: controls, text direction, invisible ones.
 */
const STEERING = /[\x7f-\x9f\p{Cf}\u2028\u2029]/gu

function escaped(char: string): string {
  return char.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * Escapes characters that could control a terminal, and removes credentials from a finished line of JSON, wherever they
 * are: user:password in a URL, bearer tokens and others in the form of a JWT, secret query values, API keys of
 * Tidegate.
 */
export function scrub(line: string): string {
  return line
    .replace(STEERING, escaped)
    .replace(/(\w:\/\/)[^\s/?#"\\]*@/g, '$1***@')
    .replace(/\b(tg_live_)[0-9A-Za-z]{8,}/g, '$1***')
    .replace(/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, '$1 ***')
    .replace(/\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*/g, 'eyJ***')
    .replace(
      /([?&](?:api[_-]?key|key|(?:access_|refresh_|id_)?token|password|secret|sig(?:nature)?|code)=)[^&\s"\\]+/gi,
      '$1***',
    )
}
