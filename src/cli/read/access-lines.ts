import { closeSync, createReadStream, openSync, readSync } from 'node:fs'
import { resolve } from 'node:path'
import { createGunzip } from 'node:zlib'
import TinyQueue from 'tinyqueue'
import { fieldsOf, parseJson } from '../../common/json.js'
import type { LoggedRequest } from '../../gateway/simulate/log-replay.js'
import { type CommandIo, whyUnreadable } from '../command.js'
import { linesOf } from './lines.js'

/**
 * A line is written when its request ends. To sort by start, this many requests are buffered before the earliest of
 * them is returned.
 */
const WAITING = 50_000
const GZIP = Buffer.from([0x1f, 0x8b])

type Input = Pick<CommandIo, 'stdin' | 'cwd'>

export interface LineProblems {
  /** Lines that are not from an access log: gateway events, or truncated lines. */
  other: number
  /** Location of the first of them, as `access.log:12`. */
  first: string | undefined
}

/**
 * Reads the requests from the access logs of one or several gateways, in the order in which they began. A request that
 * took longer than 50,000 others comes late. A file may be compressed with gzip. `-` is the standard input.
 *
 * @throws Error with the file's name if one can't be read
 */
export async function* loggedRequests(
  io: Input,
  files: readonly string[],
  problems: LineProblems,
): AsyncGenerator<LoggedRequest> {
  const waiting = new TinyQueue<LoggedRequest>([], (a, b) => a.began - b.began)
  for await (const request of merged(io, files, problems)) {
    waiting.push(request)
    if (waiting.length > WAITING) yield waiting.pop()!
  }
  while (waiting.length > 0) yield waiting.pop()!
}

/**
 * Merges files: always takes the request that ended first. A day's file so comes before the next day's, however they
 * are ordered on the command line.
 */
async function* merged(
  io: Input,
  files: readonly string[],
  problems: LineProblems,
): AsyncGenerator<LoggedRequest> {
  const heads: { lines: AsyncGenerator<LoggedRequest>; next: LoggedRequest }[] = []
  for (const file of files) {
    const lines = requestsOf(io, file, problems)
    const first = await lines.next()
    if (!first.done) heads.push({ lines, next: first.value })
  }
  while (heads.length > 0) {
    let least = heads[0]!
    for (const head of heads) if (head.next.ended < least.next.ended) least = head
    yield least.next
    const { done, value } = await least.lines.next()
    if (done) heads.splice(heads.indexOf(least), 1)
    else least.next = value
  }
}

async function* requestsOf(io: Input, file: string, problems: LineProblems): AsyncGenerator<LoggedRequest> {
  try {
    for await (const { number, text } of linesOf(openLog(io, file))) {
      if (text === '') continue
      const request = readLine(text)
      if (request !== undefined) yield request
      else {
        problems.other++
        problems.first ??= `${file}:${number}`
      }
    }
  } catch (error) {
    throw new Error(`${file}: ${whyUnreadable(error as Error)}`)
  }
}

function openLog(io: Input, file: string): AsyncIterable<Buffer> {
  if (file === '-') return io.stdin
  const path = resolve(io.cwd, file)
  const fd = openSync(path, 'r')
  const begin = Buffer.alloc(2)
  try {
    readSync(fd, begin, 0, 2, 0)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  const stream = createReadStream(path, { fd, start: 0, highWaterMark: 1 << 18 })
  if (!begin.equals(GZIP)) return stream
  const gunzip = createGunzip({ chunkSize: 1 << 18 })
  stream.on('error', (error) => gunzip.destroy(error))
  return stream.pipe(gunzip)
}

/** Parses a line; undefined if it is not from an access log. */
export function readLine(text: string): LoggedRequest | undefined {
  const line = fieldsOf(parseJson(text))
  const { time, request_id, method, host, path, client_ip, status, duration_ms, cost } = line
  const ended = typeof time === 'string' ? Date.parse(time) : Number.NaN
  if (Number.isNaN(ended) || typeof request_id !== 'string' || typeof status !== 'number') return undefined
  if (typeof method !== 'string' || typeof path !== 'string' || typeof client_ip !== 'string')
    return undefined
  const textOf = (name: string) => {
    const value = line[name]
    return typeof value === 'string' ? value : undefined
  }
  const took = typeof duration_ms === 'number' && duration_ms >= 0 ? duration_ms : 0
  return {
    began: Math.round(ended - took),
    ended,
    requestId: request_id,
    method,
    host: typeof host === 'string' ? host : '',
    path,
    route: textOf('route'),
    service: textOf('service'),
    cost: Number.isSafeInteger(cost) && (cost as number) >= 0 ? (cost as number) : 1,
    tier: textOf('tier'),
    consumer: textOf('consumer'),
    tenant: textOf('tenant'),
    clientIp: client_ip,
    status,
    error: textOf('error'),
    reachedLimits: textOf('decided_by') !== undefined || textOf('upstream') !== undefined,
  }
}
