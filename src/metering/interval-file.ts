import { open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import type { Group, Labels } from './usage-table.js'

/**
 * Lines of an interval's file. Each is a CRC-32 in hex, a space, and JSON: first the header, then any number of lists of
 * groups, and last `"end"`. A group that comes again replaces what came before, so that a line may be written twice. A line
 * whose checksum is wrong was torn by a crash or a full disk, and is skipped.
 */

/** Interval as its file describes it. */
export interface IntervalHeader {
  /** Random id of the spool that counted. With `number` it makes the ids of the events. */
  readonly spool: string
  readonly number: number
  /** Start, in unix ms. */
  readonly from: number
  /** `source` of the events. */
  readonly source: string
  /** Names of the columns. */
  readonly columns: readonly string[]
  /** Names of the columns that the events show. */
  readonly shown: readonly string[]
  /** Files that this one has merged, without their state. */
  readonly merged?: readonly string[]
}

export interface Interval {
  readonly header: IntervalHeader
  /** End, in unix ms: that of the latest line. */
  readonly to: number
  readonly groups: readonly Group[]
  /** False if the process that wrote the file ended before the interval did. */
  readonly ended: boolean
}

/** Groups in one line: a line is what a crash can lose. */
const GROUPS_A_LINE = 1000
/** Bytes that are read at once. */
const PIECE = 65_536
const END = '"end":true'

export function formatLine(value: unknown): string {
  const text = JSON.stringify(value)
  // The line before may have been torn, without its end.
  return `\n${crc32(text).toString(16).padStart(8, '0')} ${text}`
}

/**
 * Formats groups.
 *
 * @param at unix ms up to which they are counted
 */
export function* formatGroups(at: number, groups: Iterable<Group>): Generator<string> {
  let line: unknown[] = []
  for (const { index, labels, counts } of groups) {
    const { consumer, tenant, service, tier, route } = labels
    line.push([index, consumer, tenant, service, tier, route, ...counts])
    if (line.length < GROUPS_A_LINE) continue
    yield formatLine({ at, groups: line })
    line = []
  }
  if (line.length > 0) yield formatLine({ at, groups: line })
}

export const formatEnd = (at: number): string => formatLine({ at, end: true })

/**
 * Reads an interval's file. Returns undefined if it has no header: its process ended at once.
 *
 * @param id reads only the groups of this consumer or tenant, which takes less time
 */
export async function readInterval(file: string, id?: string): Promise<Interval | undefined> {
  const text = id === undefined ? '' : JSON.stringify(id)
  let header: IntervalHeader | undefined
  let to = 0
  let ended = false
  const groups = new Map<number, Group>()
  for await (const line of linesOf(file)) {
    if (header !== undefined && !line.includes(text) && !line.includes(END)) continue
    const value = parseLine(line)
    if (value === undefined) continue
    if (header === undefined) {
      header = value as IntervalHeader
      continue
    }
    const { at, groups: lists = [], end } = value as Line
    to = Math.max(to, at)
    ended ||= end === true
    for (const [index, consumer, tenant, service, tier, route, ...counts] of lists) {
      if (id !== undefined && consumer !== id && tenant !== id) continue
      const labels: Labels = { consumer, tenant, service, tier, route }
      groups.set(index, { index, labels, counts })
    }
  }
  return header && { header, to: Math.max(to, header.from), groups: [...groups.values()], ended }
}

/** Reads the first line that is whole. Returns undefined if there is none. */
export async function readHeader(file: string): Promise<IntervalHeader | undefined> {
  for await (const line of linesOf(file)) {
    const value = parseLine(line)
    if (value !== undefined) return value as IntervalHeader
  }
  return undefined
}

/** Reads the lines of a file piece by piece. Rejects when the file cannot be read. */
async function* linesOf(file: string): AsyncGenerator<Buffer> {
  const handle = await open(file)
  try {
    const piece = Buffer.allocUnsafe(PIECE)
    let rest: Buffer = Buffer.alloc(0)
    for (;;) {
      const { bytesRead } = await handle.read(piece, 0, PIECE)
      if (bytesRead === 0) break
      rest = Buffer.concat([rest, piece.subarray(0, bytesRead)])
      let start = 0
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, start)) {
        yield rest.subarray(start, end)
        start = end + 1
      }
      rest = rest.subarray(start)
    }
    yield rest
  } finally {
    await handle.close()
  }
}

interface Line {
  readonly at: number
  readonly end?: boolean
  readonly groups?: readonly (readonly [
    number,
    string | null,
    string | null,
    string | null,
    string | null,
    string | null,
    ...number[],
  ])[]
}

function parseLine(line: Buffer): unknown {
  const text = line.subarray(9)
  if (text.length === 0 || crc32(text) !== Number.parseInt(line.toString('latin1', 0, 8), 16))
    return undefined
  try {
    return JSON.parse(text.toString())
  } catch {
    return undefined
  }
}
