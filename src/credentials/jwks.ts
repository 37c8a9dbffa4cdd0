import type { TokenAlgorithm } from '../config/values/token-algorithms.js'
import { createFetcher, type Fetcher, FetchFailure, type FetchResult } from './jwks-fetch.js'
import {
  type FoundKeys,
  fits,
  type KeySource,
  type NoKey,
  noSuchKey,
  readJwk,
  type VerificationKey,
} from './keys.js'

/** Ms between two fetches, at least, whatever names of keys callers come with. */
const COOLDOWN_MS = 30_000
/** Ms after a failed fetch: doubled from one to the next. */
const RETRY_MS = { first: 1_000, most: 30_000 }
/** Keys of a set that are looked at. */
const MAX_KEYS = 100
/** Requests that wait for a fetch; more are told to come again. */
const MAX_WAITING = 1_000

export interface JwksOptions {
  readonly url: string
  /** Ms between two looks at it while it answers. */
  readonly refreshMs: number
  readonly log: JwksLog
  /** Unix ms. */
  readonly now?: () => number
  /** Runs something later; returns what calls it off. */
  readonly after?: (ms: number, run: () => void) => () => void
  readonly fetcher?: Fetcher
  /** From 0 to 1. */
  readonly random?: () => number
}

export interface JwksLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export interface Jwks extends KeySource {
  /** Keys that can be used, and ms since they were fetched; undefined before the first ones are there. */
  state(): { readonly keys: number; readonly ageMs: number | undefined }
  readonly fetches: Readonly<Record<FetchResult, number>>
}

/**
 * The public keys of an issuer, fetched at once and then in the background, always before anybody needs them. The last
 * good set holds while there is no newer one. A token that names a key which is not in it lets the set be fetched out
 * of turn, at most twice a minute.
 */
export function createJwks(options: JwksOptions): Jwks {
  const { url, refreshMs, log, now = Date.now, after = later, random = Math.random } = options
  const fetcher = options.fetcher ?? createFetcher(url)
  const fetches = { succeeded: 0, failed: 0, timeout: 0, too_large: 0, invalid: 0 }
  let keys: ReadonlyMap<string, VerificationKey> | undefined
  let fetchedAt = 0
  let triedAt = Number.NEGATIVE_INFINITY
  /** Fetches in a row that failed, and why the last one did. */
  let failures = 0
  let failed = ''
  let underWay: Promise<void> | undefined
  let waiting = 0
  let closed = false
  /** When the next fetch begins. */
  let nextAt = 0
  /** What was wrong with single keys of the set, the last time that it was said. */
  let told = ''
  let cancel = () => {}

  function schedule(): void {
    cancel()
    const retry = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** Math.min(failures - 1, 10))
    const wait = failures === 0 ? refreshMs : retry
    // Apart from those of other gateways, and never later than said.
    const ms = wait * (0.8 + 0.2 * random())
    nextAt = now() + ms
    cancel = after(ms, () => void refresh())
  }

  /** One at a time. Never rejects. */
  function refresh(): Promise<void> {
    underWay ??= fetchOnce().finally(() => {
      underWay = undefined
      if (!closed) schedule()
    })
    return underWay
  }

  async function fetchOnce(): Promise<void> {
    triedAt = now()
    try {
      const { found, problems } = readSet(await fetcher.fetch(), keys)
      if (closed) return
      fetches.succeeded++
      const wrong = problems.join('; ')
      if (failures > 0 || keys === undefined || wrong !== told)
        log.info({ jwks_url: url, keys: found.size, ...(wrong !== '' && { problems }) }, 'keys fetched')
      told = wrong
      failures = 0
      for (const [print, key] of keys ?? []) if (!found.has(print)) key.gone = true
      keys = found
      fetchedAt = now()
    } catch (error) {
      if (closed) return
      failures++
      const failure = error instanceof FetchFailure ? error : new FetchFailure('failed', String(error))
      failed = failure.message
      fetches[failure.result]++
      const instead = keys === undefined ? 'tokens cannot be checked' : 'the last good ones stay in use'
      log.warn({ jwks_url: url, error: failure.message, failures }, `keys could not be fetched; ${instead}`)
    }
  }

  /** In what there is now. */
  function look(algorithm: TokenAlgorithm, kid: string | undefined): FoundKeys {
    if (keys === undefined)
      return unavailable(
        failures === 0 ? 'its keys are not there yet' : `its keys could not be fetched: ${failed}`,
      )
    const found: VerificationKey[] = []
    for (const key of keys.values())
      if ((kid === undefined || key.kid === kid) && fits(key, algorithm)) found.push(key)
    if (found.length === 1) return found
    if (found.length > 1) return noSuchKey(`it names no key, and ${found.length} could be meant`)
    const why =
      kid === undefined ? `no key is for ${algorithm}` : `no key for ${algorithm} is named ${shown(kid)}`
    // Nobody can say that there is none while the set cannot be had.
    return failures > 0
      ? unavailable(`${why}, and no newer ones could be fetched: ${failed}`)
      : noSuchKey(why)
  }

  function unavailable(why: string): NoKey {
    return { unavailable: true, why, retryMs: Math.max(0, nextAt - now()) }
  }

  function later(ms: number, run: () => void): () => void {
    const timer = setTimeout(run, ms).unref()
    return () => clearTimeout(timer)
  }

  void refresh()

  return {
    find(algorithm, kid) {
      const found = look(algorithm, kid)
      if ('length' in found || closed) return found
      // Only a name that is not known can be known a moment later.
      const mayCome = keys === undefined || kid !== undefined
      if (!mayCome) return found
      const due = keys !== undefined && now() - triedAt >= COOLDOWN_MS
      if (underWay === undefined && !due) return found
      if (waiting >= MAX_WAITING) return unavailable('too many wait for its keys')
      waiting++
      return refresh().then(() => {
        waiting--
        return look(algorithm, kid)
      })
    },
    state: () => ({ keys: keys?.size ?? 0, ageMs: keys === undefined ? undefined : now() - fetchedAt }),
    fetches,
    close() {
      closed = true
      cancel()
      fetcher.close()
    },
  }
}

/** For a log: what a caller sends, in quotes and not endless. */
function shown(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text)
}

/**
 * The keys of a set that can be used, those that were there before as the same objects.
 *
 * @throws FetchFailure when there is none: a set that is empty by mistake must not take the good one's place
 */
function readSet(
  text: string,
  before: ReadonlyMap<string, VerificationKey> | undefined,
): { found: Map<string, VerificationKey>; problems: string[] } {
  let set: unknown
  try {
    set = JSON.parse(text)
  } catch {
    throw new FetchFailure('invalid', 'it sends no JSON')
  }
  const list = typeof set === 'object' && set !== null ? (set as { keys?: unknown }).keys : undefined
  if (!Array.isArray(list)) throw new FetchFailure('invalid', 'it sends no list of keys')
  const found = new Map<string, VerificationKey>()
  const names = new Set<string>()
  const problems: string[] = []
  for (const [i, jwk] of list.slice(0, MAX_KEYS).entries()) {
    const read = readJwk(jwk)
    if (typeof read === 'string') {
      problems.push(`keys[${i}] ${read}`)
      continue
    }
    const { key, print } = read
    const name = JSON.stringify([key.kid, key.algorithm, key.key.asymmetricKeyType, curveOf(key)])
    // Which of them is meant nobody can know: the first, as whoever reads a set as a list has it.
    if (key.kid !== undefined && names.has(name) && !found.has(print))
      problems.push(`keys[${i}] has the kid of another`)
    else found.set(print, before?.get(print) ?? key)
    names.add(name)
  }
  if (list.length > MAX_KEYS) problems.push(`only the first ${MAX_KEYS} of ${list.length} keys are used`)
  if (found.size === 0)
    throw new FetchFailure('invalid', ['it has no key that can be used', ...problems].join('; '))
  return { found, problems: problems.slice(0, 10) }
}

function curveOf({ key }: VerificationKey): string {
  return key.asymmetricKeyDetails?.namedCurve ?? ''
}
