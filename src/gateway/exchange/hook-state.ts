import type { ExtensionRequest } from '../../extension/define.js'
import { plainName } from './headers.js'

/** State of the hooks of one request. Made for the first hook that runs. */
export interface HookState {
  /** Request as hooks see it. */
  readonly request: ExtensionRequest
  /** Notes on what each hook did, for people: extension, hook, effect, … */
  readonly notes: string[]
  /** Highest cost that a hook returned; 0: none did. */
  cost: number
  /** Changes to the header for the upstream. */
  upstream: FieldChange | undefined
  /** Names of the headers that hooks have read, in lower case. */
  read: Set<string> | undefined
  /** Hook that the request waits for. */
  waiting: { leave(): void } | undefined
  /** Made when a hook reads `request.signal`. */
  aborter: AbortController | undefined
}

/** Change to the header of a message. */
export interface FieldChange {
  /** Lower-case names of the headers to remove first. */
  readonly drop: ReadonlySet<string>
  /** Headers to add: name, value, … */
  readonly put: readonly string[]
}

/** Returns the header as it is with a change. A twin with `_` or the like of a header that is dropped is dropped, too. */
export function withChange(fields: readonly string[], { drop, put }: FieldChange): string[] {
  const out: string[] = []
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!.toLowerCase()
    if (!drop.has(name) && !drop.has(plainName(name))) out.push(fields[i]!, fields[i + 1]!)
  }
  out.push(...put)
  return out
}

/** Returns the header without twins of what hooks have read: a backend could take them for what a hook has checked. */
export function withoutTwins(fields: readonly string[], read: ReadonlySet<string>): string[] {
  const out: string[] = []
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!.toLowerCase()
    const plain = plainName(name)
    if (plain === name || !read.has(plain) || read.has(name)) out.push(fields[i]!, fields[i + 1]!)
  }
  return out
}
