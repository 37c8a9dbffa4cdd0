import { lookup as askSystem } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { limitConcurrency } from '../../common/wait.js'

export interface ResolvedAddress {
  readonly address: string
  readonly family: number
}

type Resolve = (name: string) => Promise<readonly ResolvedAddress[]>

interface Known {
  readonly name: string
  readonly watchers: Set<() => void>
  addresses: readonly ResolvedAddress[]
  error: NodeJS.ErrnoException | undefined
  /** `now()` of the latest result, successful or not. */
  askedAt: number
  asking: Promise<void> | undefined
  next: number
}

/** Ms between lookups. A changed address must be seen within 30 s, a slow lookup and a busy moment included. */
const REFRESH_MS = 20_000
/** Shortest time in ms between lookups of a name that has never resolved. */
const AGAIN_MS = 1_000
/**
 * Most lookups at once: `getaddrinfo` blocks one of libuv's four threads while it runs, and file access needs them,
 * too.
 */
const AT_ONCE = 2

interface NamesOptions {
  readonly resolve?: Resolve
  readonly refreshMs?: number
  readonly now?: () => number
}

/** Uses the system's resolver, so that /etc/hosts and search domains apply. */
const bySystem: Resolve = (name) => askSystem(name, { all: true, verbatim: true })

/** Resolves the names of upstreams. Watched names are resolved again and again, with or without traffic. */
export type Names = ReturnType<typeof createNames>

export function createNames({
  resolve = bySystem,
  refreshMs = REFRESH_MS,
  now = () => performance.now(),
}: NamesOptions = {}) {
  const names = new Map<string, Known>()
  const inTurn = limitConcurrency(AT_ONCE)

  function ask(known: Known): Promise<void> {
    known.asking ??= inTurn(() => resolve(known.name))
      .then(
        (answer) => took(known, answer),
        (error: NodeJS.ErrnoException) => {
          known.error = error
        },
      )
      .finally(() => {
        known.askedAt = now()
        known.asking = undefined
      })
    return known.asking
  }

  function took(known: Known, answer: readonly ResolvedAddress[]): void {
    if (answer.length === 0) {
      known.error = Object.assign(new Error('no addresses'), { code: 'ENOTFOUND' })
      return
    }
    const before = listed(known.addresses)
    known.error = undefined
    known.addresses = answer
    if (before.length === 0 || before.join() === listed(answer).join()) return
    for (const moved of known.watchers) moved()
  }

  function knownAs(name: string): Known {
    let known = names.get(name)
    if (known === undefined) {
      known = {
        name,
        watchers: new Set(),
        addresses: [],
        error: undefined,
        askedAt: Number.NEGATIVE_INFINITY,
        asking: undefined,
        next: 0,
      }
      names.set(name, known)
    }
    return known
  }

  async function addressesOf(name: string): Promise<readonly ResolvedAddress[]> {
    const known = knownAs(name)
    if (known.addresses.length === 0 && now() - known.askedAt >= AGAIN_MS) await ask(known)
    const { addresses, error, next } = known
    if (addresses.length === 0) throw error ?? new Error(`no address is known for ${name}`)
    known.next = (next + 1) % addresses.length
    return [...addresses.slice(next), ...addresses.slice(0, next)]
  }

  const timer = setInterval(() => {
    for (const [name, known] of names) {
      if (known.watchers.size === 0) names.delete(name)
      else void ask(known)
    }
  }, refreshMs).unref()

  /** Replaces `dns.lookup`: returns the last successful result, each time with another of its addresses first. */
  const lookup: LookupFunction = (name, options, callback) => {
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0)
    const own = isIP(name)
    const found = own === 0 ? addressesOf(name) : Promise.resolve([{ address: name, family: own }] as const)
    found.then(
      (all) => {
        const fitting = family === 0 ? all : all.filter((one) => one.family === family)
        const [first] = fitting
        if (first === undefined) {
          const none = Object.assign(new Error(`${name} has no IPv${family} address`), {
            code: 'ENOTFOUND',
          })
          callback(none, '', 0)
        } else if (options.all) callback(null, [...fitting])
        else callback(null, first.address, first.family)
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 0),
    )
  }

  return {
    lookup,
    /**
     * Keeps resolving a name.
     *
     * @param moved called when its addresses have changed
     * @returns a function to call when the name is not needed any more
     */
    watch(name: string, moved: () => void): () => void {
      const known = knownAs(name)
      known.watchers.add(moved)
      if (known.addresses.length === 0) void ask(known)
      return () => void known.watchers.delete(moved)
    },
    /** Returns the state of the resolution of a name; undefined if it is not known. */
    state(name: string) {
      const known = names.get(name)
      if (known === undefined) return undefined
      return {
        /** Addresses of the last successful lookup. */
        addresses: known.addresses.map(({ address }) => address),
        /** Error of the latest lookup, if it failed. */
        error: known.error?.code ?? known.error?.message,
      }
    },
    close(): void {
      clearInterval(timer)
      names.clear()
    },
  }
}

/** Sorts addresses, since results come in any order. */
function listed(addresses: readonly ResolvedAddress[]): string[] {
  return addresses.map(({ address }) => address).sort()
}
