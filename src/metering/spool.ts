import { randomBytes } from 'node:crypto'
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setImmediate as immediate } from 'node:timers/promises'
import {
  formatEnd,
  formatGroups,
  formatLine,
  type Interval,
  type IntervalHeader,
  readHeader,
  readInterval,
} from './interval-file.js'
import { claim, createWatch, release, touch } from './spool-owner.js'
import type { Group, Labels, UsageTable } from './usage-table.js'

/**
 * Keeps intervals on disk until they are sent. Each process has a folder of its own below the configured one, and takes
 * over the folders that dead processes have left. Files are named `FROM-SPOOL-NUMBER.STATE`, so that names sort by time.
 */

/**
 * `journal`: the present interval, appended once a second. `usage`: a whole interval, never sent. `trying`: sent at least
 * once, so the receiver may have it. `sent`: the receiver has it; kept to be sent again by hand.
 */
type State = 'journal' | 'usage' | 'trying' | 'sent'

interface SpoolFile {
  /** Name without the state. */
  readonly stem: string
  readonly from: number
  /** Bytes that it takes on disk, in whole blocks. */
  readonly bytes: number
  readonly state: State
}

export interface SpoolReading {
  /** Intervals that wait to be sent. */
  readonly waiting: number
  /** Start of the oldest of them, in unix ms. */
  readonly oldest: number | undefined
  readonly bytes: number
  /** Start of the latest interval that was given up after it had been sent, in unix ms; 0 if none was. */
  readonly forgotten: number
  /** Since when counts are in memory only, in unix ms; undefined while they are saved. */
  readonly unsavedSince: number | undefined
}

export interface SpoolOptions {
  readonly path: string
  /** Bytes that all files of this process may take. */
  readonly size: number
  readonly source: string
  readonly columns: readonly string[]
  readonly shown: readonly string[]
  readonly log: Record<'warn' | 'info', (fields: object, message: string) => void>
  readonly now?: () => number
}

const FOLDER = /^[0-9a-f]{16}$/
/** Name of the file that says until when intervals were given up: the next process cannot tell by the others. */
const FORGOTTEN = 'forgotten'
const NAME = /^(\d{13}-[0-9a-f]{16}-\d+)\.(journal|usage|trying|sent)$/
/** Bytes of a journal from which it is written anew when most of it is out of date. */
const LONG_JOURNAL = 8 * 1024 * 1024
/** Least bytes of a group in a file, to guess how long a journal would be if it were written anew. */
const BYTES_A_GROUP = 60
const HOUR = 3_600_000
const BLOCK = 4096
/** Groups that are added up in one turn of the event loop. */
const GROUPS_A_TURN = 5000
/** Share of the size that intervals which were sent may take. */
const SENT_SHARE = 0.25

export type Spool = Awaited<ReturnType<typeof openSpool>>

/**
 * Opens the spool. A folder that cannot be written is no error: counts stay in memory until it can.
 *
 * @throws Error if the folder cannot be made, which is an error of the configuration
 */
export async function openSpool(options: SpoolOptions) {
  const { path, size, source, columns, shown, log, now = Date.now } = options
  const spool = randomBytes(8).toString('hex')
  const folder = join(path, spool)
  const makeFolder = async () => {
    await mkdir(folder, { recursive: true, mode: 0o750 })
    await claim(folder)
  }
  try {
    await makeFolder()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new Error(
      `metering.spool.path: cannot write to ${path} (${code}); make the folder, or let this user write to it`,
    )
  }
  const isLeft = createWatch()
  const files = new Map<string, SpoolFile>()
  let numbers = 0
  /** Journal of the present interval. */
  let journal: { stem: string; handle: FileHandle; bytes: number } | undefined
  /** Stem of the present interval; undefined until something was counted. */
  let present: string | undefined
  let unsavedSince: number | undefined
  /** Start of the latest interval that was removed, in unix ms. */
  let forgotten = 0
  /** Why usage of ended processes could not be taken over; empty if it could. */
  let notAdopted = ''
  let last: Promise<unknown> = Promise.resolve()

  /** Runs what changes files one after the other. */
  function inTurn<T>(task: () => Promise<T>): Promise<T> {
    const turn = last.then(task)
    last = turn.catch(() => {})
    return turn
  }

  const fileOf = (stem: string, state: State | 'new') => join(folder, `${stem}.${state}`)
  const stemOf = (from: number) => `${String(from).padStart(13, '0')}-${spool}-${numbers++}`
  const note = (stem: string, state: State, bytes: number) =>
    files.set(stem, {
      stem,
      state,
      bytes: Math.ceil(bytes / BLOCK) * BLOCK,
      from: Number(stem.slice(0, 13)),
    })
  const listed = (...states: State[]) =>
    [...files.values()]
      .filter(({ state }) => states.includes(state))
      .sort((a, b) => (a.stem < b.stem ? -1 : 1))
  const bytesOf = (list: readonly SpoolFile[]) => list.reduce((sum, { bytes }) => sum + bytes, 0)

  function headerOf(stem: string, more: Partial<IntervalHeader> = {}): IntervalHeader {
    const [from = '', , number = ''] = stem.split('-')
    return { spool, number: Number(number), from: Number(from), source, columns, shown, ...more }
  }

  /** Writes a whole file under another name first, so that a crash leaves the old one or the new one. */
  async function writeWhole(stem: string, state: State, lines: Iterable<string>): Promise<number> {
    const handle = await open(fileOf(stem, 'new'), 'w', 0o640)
    let bytes = 0
    try {
      for (const line of lines) bytes += await append(handle, line)
      await handle.sync()
    } catch (error) {
      // It must not take the last of the disk.
      await unlink(fileOf(stem, 'new')).catch(() => {})
      throw error
    } finally {
      await handle.close()
    }
    await rename(fileOf(stem, 'new'), fileOf(stem, state))
    await syncFolder()
    note(stem, state, bytes)
    return bytes
  }

  async function syncFolder(): Promise<void> {
    const handle = await open(folder, 'r')
    await handle.sync().finally(() => handle.close())
  }

  async function move(stem: string, from: State, to: State): Promise<void> {
    await rename(fileOf(stem, from), fileOf(stem, to))
    await syncFolder()
    note(stem, to, files.get(stem)!.bytes)
  }

  async function remove({ stem, state }: SpoolFile): Promise<void> {
    await unlink(fileOf(stem, state)).catch(() => {})
    files.delete(stem)
  }

  /** Notes that intervals up to this one, by its start in unix ms, were given up. */
  async function forget(from: number): Promise<void> {
    if (!(from > forgotten)) return
    forgotten = from
    await writeFile(join(folder, FORGOTTEN), String(from)).catch(() => {})
  }

  async function dropJournal(): Promise<void> {
    await journal?.handle.close().catch(() => {})
    journal = undefined
  }

  /** Writes the counts of the present interval that have changed, or all of them if the journal is new or too long. */
  async function write(table: UsageTable): Promise<void> {
    const at = now()
    const isLong = (bytes: number) => bytes > LONG_JOURNAL && bytes > 4 * table.size() * BYTES_A_GROUP
    if (journal !== undefined && !isLong(journal.bytes)) {
      let bytes = 0
      for (const line of formatGroups(at, table.takeChanged())) bytes += await append(journal.handle, line)
      if (bytes === 0) return
      await journal.handle.datasync()
      journal.bytes += bytes
      note(journal.stem, 'journal', journal.bytes)
      return
    }
    await dropJournal()
    if (table.size() === 0) return
    table.takeChanged()
    present ??= stemOf(table.from)
    const stem = present
    const bytes = await writeWhole(stem, 'journal', linesOf(headerOf(stem), at, table.groups()))
    journal = { stem, handle: await open(fileOf(stem, 'journal'), 'a'), bytes }
  }

  /** Saves what was counted since the last call. Never rejects: what could not be saved is written at the next call. */
  function save(table: UsageTable): Promise<boolean> {
    return inTurn(async () => {
      try {
        await write(table)
        if (unsavedSince !== undefined) log.info({ path: folder }, 'usage is saved again')
        unsavedSince = undefined
        return true
      } catch (error) {
        await dropJournal()
        failed(error)
        return false
      }
    })
  }

  function failed(error: unknown): void {
    if (unsavedSince === undefined) {
      const fields = { path: folder, error: (error as Error).message }
      log.warn(fields, 'usage cannot be saved: it stays in memory; free disk space, or check the folder')
    }
    unsavedSince ??= now()
  }

  /** Ends an interval: its file can be sent. Resolves with false if it could not be written; then call it again. */
  function end(table: UsageTable): Promise<boolean> {
    return inTurn(async () => {
      if (table.size() === 0) return true
      const at = now()
      const stem = present ?? stemOf(table.from)
      present = stem
      try {
        await writeWhole(stem, 'usage', wholeLines(headerOf(stem), at, table.groups()))
      } catch (error) {
        failed(error)
        return false
      }
      await dropJournal()
      await unlink(fileOf(stem, 'journal')).catch(() => {})
      present = undefined
      unsavedSince = undefined
      return true
    })
  }

  /** Returns true if there is room for another interval. Merges and removes what it may. */
  function makeRoom(): Promise<boolean> {
    return inTurn(async () => {
      const sent = listed('sent')
      let surplus = Math.max(bytesOf(sent) - size * SENT_SHARE, bytesOf([...files.values()]) - size)
      for (const file of sent) {
        if (surplus <= 0) break
        surplus -= file.bytes
        await forget(file.from)
        await remove(file)
      }
      if (bytesOf(listed('usage', 'trying')) > size / 2) await mergeHour().catch(failed)
      return bytesOf(listed('usage', 'trying')) < size * 0.9
    })
  }

  /**
   * Merges the intervals of an hour that were never sent, of the oldest hour that has several. Their totals stay the same.
   * One hour only: counts are not saved meanwhile.
   */
  async function mergeHour(): Promise<void> {
    const hours = new Map<number, SpoolFile[]>()
    for (const file of listed('usage')) {
      const hour = Math.floor(file.from / HOUR)
      const parts = hours.get(hour)
      if (parts === undefined) hours.set(hour, [file])
      else parts.push(file)
    }
    for (const [hour, parts] of hours) {
      if (parts.length > 1 && (hour + 1) * HOUR <= now() && (await merge(parts))) return
    }
  }

  /** Merges those that count the same for the same receiver. Returns true if there were any. */
  async function merge(parts: readonly SpoolFile[]): Promise<boolean> {
    interface Kind {
      readonly header: IntervalHeader
      to: number
      readonly sums: Sums
      readonly parts: SpoolFile[]
    }
    const kinds = new Map<string, Kind>()
    for (const part of parts) {
      // One after the other: all of an hour may not fit into memory.
      const interval = await readInterval(fileOf(part.stem, 'usage'))
      if (interval === undefined) continue
      const { header, to, groups } = interval
      const kind = JSON.stringify([header.source, header.columns, header.shown])
      const like: Kind = kinds.get(kind) ?? { header, to, sums: new Map(), parts: [] }
      kinds.set(kind, like)
      like.to = Math.max(like.to, to)
      like.parts.push(part)
      await addUp(like.sums, groups)
    }
    let isMerged = false
    for (const { header: first, to, sums, parts } of kinds.values()) {
      if (parts.length < 2) continue
      const stem = stemOf(first.from)
      const { source, columns, shown } = first
      const merged = parts.map((part) => part.stem)
      await writeWhole(
        stem,
        'usage',
        wholeLines(headerOf(stem, { merged, source, columns, shown }), to, sums.values()),
      )
      for (const part of parts) await remove(part)
      isMerged = true
    }
    return isMerged
  }

  /** Takes over the folders of processes that have ended, and goes on with those that it could not absorb before. */
  function adopt(): Promise<void> {
    return inTurn(async () => {
      await touch(folder).catch(beginAgain)
      for (const name of await readdir(path)) {
        if (!FOLDER.test(name) || name === spool || !(await isLeft(join(path, name)))) continue
        // Only one process can rename it.
        await rename(join(path, name), join(folder, `adopted-${name}`)).catch(() => {})
      }
      for (const name of await readdir(folder)) {
        if (name.startsWith('adopted-')) await absorb(join(folder, name))
      }
      notAdopted = ''
    }).catch((error: Error) => {
      if (error.message !== notAdopted)
        log.warn(
          { path, error: error.message },
          'usage that an ended process has left cannot be taken over; check the folder',
        )
      notAdopted = error.message
    })
  }

  /**
   * Makes the folder again. Somebody removed it, or another process took it for left, because this one stood still for too
   * long: then that one sends what was saved, and the present interval keeps its ids.
   */
  async function beginAgain(): Promise<void> {
    await dropJournal()
    files.clear()
    await makeFolder()
  }

  /**
   * Moves the intervals of an ended process into this one's folder, with those that it had not moved itself. A journal
   * becomes an interval.
   */
  async function absorb(taken: string): Promise<void> {
    const names = await readdir(taken, { recursive: true })
    for (const name of names)
      if (basename(name) === FORGOTTEN) await forget(Number(await readFile(join(taken, name), 'utf8')))
    const found = names.flatMap((name) => {
      const [, stem, state] = NAME.exec(basename(name)) ?? []
      return stem === undefined ? [] : [{ file: join(taken, name), stem, state: state as State }]
    })
    // A merge may have been interrupted before it could remove its parts.
    const merged = new Set<string>()
    for (const { file, state } of found) {
      if (state === 'usage') for (const part of (await readHeader(file))?.merged ?? []) merged.add(part)
    }
    for (const { file, stem } of found) if (merged.has(stem)) await unlink(file)
    // If a journal has become an interval already, that is the one that counts.
    const isJournal = ({ state }: { state: State }) => Number(state === 'journal')
    for (const { file, stem, state } of found.sort((a, b) => isJournal(a) - isJournal(b))) {
      if (merged.has(stem) || files.has(stem)) continue
      if (state === 'journal') {
        const interval = await readInterval(file)
        if (interval === undefined || interval.groups.length === 0) continue
        const { header, to, groups } = interval
        // Never to be merged: should its process live after all, it ends the interval under the same ids.
        await writeWhole(stem, 'trying', wholeLines(header, to, groups))
        await unlink(file)
      } else {
        await rename(file, fileOf(stem, state))
        note(stem, state, (await stat(fileOf(stem, state))).size)
      }
    }
    await syncFolder()
    await rm(taken, { recursive: true, force: true })
  }

  async function* readEach(list: SpoolFile[], id: string) {
    for (const { stem } of list.reverse()) {
      const found = await inTurn(async () => {
        const file = files.get(stem)
        const interval = file && (await readInterval(fileOf(stem, file.state), id))
        return interval && { state: file.state, interval }
      })
      if (found !== undefined) yield found
    }
  }

  return {
    folder,
    save,
    end,
    makeRoom,
    adopt,
    /** Returns the oldest interval that waits to be sent, and marks it as one that the receiver may have from now on. */
    next: () =>
      inTurn(async (): Promise<{ stem: string; interval: Interval } | undefined> => {
        for (const { stem, state } of listed('usage', 'trying')) {
          const interval = await readInterval(fileOf(stem, state))
          if (interval === undefined) {
            log.warn(
              { file: fileOf(stem, state) },
              'a file of the usage spool cannot be read, and is left out',
            )
            files.delete(stem)
            continue
          }
          if (state === 'usage') await move(stem, 'usage', 'trying')
          return { stem, interval }
        }
        return undefined
      }),
    /** Marks an interval as sent. */
    sent: (stem: string) => inTurn(() => move(stem, 'trying', 'sent')),
    /** Sends the intervals between two times again. Resolves with their number. */
    resend: (from: number, to: number) =>
      inTurn(async () => {
        const again = listed('sent').filter((file) => file.from >= from && file.from < to)
        for (const { stem } of again) await move(stem, 'sent', 'trying')
        return again.length
      }),
    /**
     * Reads the intervals that this spool has now, newest first, one at a time, with what one consumer or tenant has used.
     *
     * @param from start of the earliest, in unix ms
     */
    latest: (from: number, id: string) =>
      readEach(
        listed('usage', 'trying', 'sent').filter((file) => file.from >= from),
        id,
      ),
    read(): SpoolReading {
      const waiting = listed('usage', 'trying')
      return {
        waiting: waiting.length,
        oldest: waiting[0]?.from,
        bytes: bytesOf([...files.values()]),
        forgotten,
        unsavedSince,
      }
    },
    /** Ends. Another spool may take the folder over at once. */
    async close(): Promise<void> {
      await inTurn(dropJournal)
      await release(folder).catch(() => {})
    },
  }
}

/** Appends a line as a whole. Returns its bytes. */
async function append(handle: FileHandle, line: string): Promise<number> {
  const bytes = Buffer.from(line)
  // Unlike write(), it does not take a part for all when the disk is nearly full.
  await handle.appendFile(bytes)
  return bytes.length
}

function* linesOf(header: IntervalHeader, at: number, groups: Iterable<Group>): Generator<string> {
  yield formatLine(header)
  yield* formatGroups(at, groups)
}

function* wholeLines(header: IntervalHeader, to: number, groups: Iterable<Group>): Generator<string> {
  yield* linesOf(header, to, groups)
  yield formatEnd(to)
}

/** Sums of groups by their labels. */
type Sums = Map<string, { readonly index: number; readonly labels: Labels; readonly counts: number[] }>

async function addUp(sums: Sums, groups: readonly Group[]): Promise<void> {
  for (const [n, { labels, counts }] of groups.entries()) {
    if (n % GROUPS_A_TURN === 0) await immediate()
    const key = JSON.stringify(labels)
    const sum = sums.get(key)
    if (sum === undefined) sums.set(key, { index: sums.size, labels, counts: [...counts] })
    else for (const [i, count] of counts.entries()) sum.counts[i]! += count
  }
}
