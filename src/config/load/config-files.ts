import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Config } from '../schema/schema.js'
import type { ConfigHashes } from '../snapshot/hash.js'
import { MAX_ADDRESS_FILE } from '../values/address-file.js'
import { type NamedFile, readWholeFile } from '../values/read-file.js'
import type { Extensions, PreparedExtensions } from './extension-instances.js'
import { loadInThread, THREAD_BYTES } from './in-thread.js'
import { type Included, readIncluded, signatureOfPattern } from './include.js'
import { formatError } from './load.js'
import { loadWithExtensions } from './load-with-extensions.js'
import { signatureOf, type WatchOptions, watchFile } from './watch.js'
import { MAX_BYTES } from './yaml.js'

/** Reads the configuration file, and watches the files that it names. */

/** Watches the files that a configuration names or includes, which were read along with it. */
export function watchNamedFiles(options: Omit<WatchOptions, 'known'>) {
  const watchers = new Map<string, { close(): void }>()
  let closed = false
  return {
    async watch(main: string, config: Config, { patterns, files }: Included): Promise<void> {
      const included = () => readIncluded(patterns, { file: main, text: '' }, () => {})
      const wanted = new Map<string, Watched>()
      for (const { file, text } of namedFilesOf(config)) {
        wanted.set(file, { signature: signatureOf, changed: () => textOf(file) !== text })
      }
      for (const pattern of patterns) {
        const changed = () => !isDeepStrictEqual(included(), files)
        wanted.set(pattern, { signature: signatureOfPattern, changed })
      }
      // A change of a module only brings a warning.
      for (const { module } of config.extensions ?? [])
        wanted.set(module, { signature: signatureOf, changed: () => false })
      for (const [file, watcher] of watchers) {
        if (wanted.has(file)) continue
        watcher.close()
        watchers.delete(file)
      }
      for (const [file, { signature, changed }] of wanted) {
        if (watchers.has(file)) continue
        const known = await signature(file)
        if (closed || watchers.has(file)) return
        watchers.set(file, watchFile(file, { ...options, known, signature }))
        // The file may have changed since it was read.
        if (changed()) options.onChange()
      }
    },
    close() {
      closed = true
      for (const watcher of watchers.values()) watcher.close()
    },
  }
}

interface Watched {
  readonly signature: (file: string) => Promise<string>
  /** Returns true if the present content is not the one that was read. */
  readonly changed: () => boolean
}

/** Reads the present text of a file; undefined if it cannot be read. */
function textOf(file: string): string | undefined {
  try {
    return readWholeFile(file, MAX_ADDRESS_FILE)
  } catch {
    return undefined
  }
}

/** Returns true if the configuration names or includes files that take long to read in their present size. */
export async function namesLongFiles(config: Config, { files }: Included): Promise<boolean> {
  if (files.reduce((sum, { text }) => sum + text.length, 0) >= THREAD_BYTES) return true
  for (const { file } of namedFilesOf(config)) {
    const size = await stat(file).then(
      (found) => found.size,
      () => 0,
    )
    if (size >= THREAD_BYTES) return true
  }
  return false
}

function namedFilesOf({ services, edge, trusted_proxies: proxies }: Config): NamedFile[] {
  const pem = Object.values(services).flatMap(({ tls, identity }) =>
    [tls?.ca, tls?.cert, tls?.key, identity?.jwt?.key, ...(identity?.jwt?.publish ?? [])].filter(
      (pem) => pem !== undefined,
    ),
  )
  const lists = [...edge.deny, ...edge.allow, ...proxies]
  return [...pem, ...lists.flatMap((one) => (typeof one === 'object' && 'file' in one ? [one.file] : []))]
}

type ReadResult =
  | {
      ok: true
      config: Config
      hashes: ConfigHashes
      source: ConfigText
      messages: string[]
      prepared: PreparedExtensions
    }
  | { ok: false; messages: string[]; included?: Included }

/** The text that a configuration was made from, with that of the files that it includes. */
export interface ConfigText {
  readonly text: string
  readonly included: Included
}

export async function readConfig(
  file: string,
  env: NodeJS.ProcessEnv,
  extensions: Extensions,
  large = false,
): Promise<ReadResult> {
  let text: string
  try {
    text = await readText(file)
  } catch (error) {
    return { ok: false, messages: [formatError({ file, line: 1, column: 1, message: whyUnreadable(error) })] }
  }
  const loaded = await loadWithExtensions(text, { file, env }, extensions, (text, options) =>
    loadInThread(text, options, large),
  )
  const { included } = loaded
  const messages = (loaded.ok ? loaded.warnings : loaded.errors).map(formatError)
  if (!loaded.ok) return { ok: false, messages, included }
  const { config, hashes, prepared } = loaded
  messages.push(...(await extensions.newer(config)))
  return { ok: true, config, hashes, source: { text, included }, messages, prepared }
}

/** Reads a file up to its maximum size, so that an endless one (a device, a pipe) does no harm. */
async function readText(file: string): Promise<string> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if ((await handle.stat()).isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' })
    const buffer = Buffer.alloc(MAX_BYTES + 1)
    let length = 0
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null)
      length += bytesRead
      if (bytesRead === 0 || length === buffer.length) break
    }
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(buffer.subarray(0, length))
  } finally {
    await handle.close()
  }
}

function whyUnreadable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
  return UNREADABLE[code] ?? `the file cannot be read (${code}); make it readable`
}

const UNREADABLE: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file; create it, or name another with --config',
  EACCES: 'this user may not read the file; grant the right to read it',
  EISDIR: 'this is a directory; name the file in it',
  ERR_ENCODING_INVALID_ENCODED_DATA: 'the file is not UTF-8 text; save it as UTF-8',
}
