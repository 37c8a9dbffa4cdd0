import type { RequestRecord } from '../record/record.js'
import { asciiOnly, createLineBuilder } from './access-line.js'
import type { LineFilter } from './line-filter.js'
import { createLineSink, type LineSink } from './line-sink.js'
import { openOutput, wholeWrite } from './output.js'

/** Writes one JSON line per request. `docs/logs.md` lists the fields. */
export interface AccessLog extends Omit<LineSink, 'write'> {
  /** Writes a line. Never waits, never throws: a line without room is counted in `dropped`. */
  write(r: RequestRecord): void
  /** Returns the number of filtered lines by reason. */
  leftOut(): Readonly<Record<string, number>>
}

export interface AccessLogOptions {
  readonly destination: 'stdout' | 'off' | (string & {})
  readonly onProblem?: (error: Error) => void
  /** True if other processes write to the same destination. */
  readonly shared?: boolean
  /** Chooses the requests that get a line. Default: all. */
  readonly filter?: LineFilter
}

/** Creates an access log. Throws when the destination is a path that cannot be opened for appending. */
export function createAccessLog(options: AccessLogOptions): AccessLog {
  if (options.destination === 'off') return NO_ACCESS_LOG
  const whole = options.shared ? wholeWrite(options.destination) : undefined
  const sink = createLineSink(openOutput(options.destination), {
    onProblem: options.onProblem,
    ...(whole === undefined ? {} : { chunkSize: whole }),
  })
  const line = createLineBuilder()
  const { filter } = options
  return {
    ...sink,
    write(r) {
      if (filter !== undefined && !filter.keeps(r)) return
      const text = line(r)
      sink.write(whole === undefined || text.length <= whole ? text : shorten(text))
    },
    leftOut: () => filter?.leftOut() ?? {},
    close() {
      filter?.close()
      return sink.close()
    },
  }
}

/**
 * Longest text in a shortened line: a line with every value this long stays below 4 KiB, even at six bytes a character.
 */
const SHORT_TEXT = 64

/** Shortens a line that would not be written whole beside those of other processes. */
function shorten(line: Buffer): string {
  const cut = (_: string, value: unknown) =>
    typeof value === 'string' && value.length > SHORT_TEXT ? `${value.slice(0, SHORT_TEXT)}...` : value
  return `${asciiOnly(JSON.stringify(JSON.parse(line.toString('latin1')), cut))}\n`
}

/** Writes nothing. */
export const NO_ACCESS_LOG: AccessLog = {
  write() {},
  flush: () => Promise.resolve(),
  flushSync() {},
  dropped: () => 0,
  leftOut: () => ({}),
  reopen() {},
  close: () => Promise.resolve(),
}
