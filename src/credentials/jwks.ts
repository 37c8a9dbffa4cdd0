import { fieldsOf, parseJson } from '../common/json.js'
import type { TokenAlgorithm } from '../config/values/token-algorithms.js'
import { createFetcher, type Fetcher, FetchFailure, type FetchResult } from './jwks-fetch.js'
import {
  type FoundKeys,
  fits,
  type KeySource,
  type NoKey,
  noSuchKey,
  readJwk,
  shown,
  type VerificationKey,
} from './keys.js'

/** Shortest time between two fetches, in ms, whatever key ids clients send. */
const COOLDOWN_MS = 30_000
/** Delay after a failed fetch, in ms. It doubles with each further failure. */
const RETRY_MS = { first: 1_000, most: 30_000 }
/** Most keys of a set that are read. */
const MAX_KEYS = 100
/** Most requests that wait for a fetch; further ones get an error that asks them to retry. */
const MAX_WAITING = 1_000

export interface JwksOptions {
  readonly url: string
  /** Time between two fetches while they succeed, in ms. */
  readonly refreshMs: number
  readonly log: JwksLog
  /** Returns the current time in Unix ms. */
  readonly now?: () => number
  /** Runs something later; returns a function that cancels it. */
  readonly after?: (ms: number, run: () => void) => () => void
  readonly fetcher?: Fetcher
  /** Returns a random number from 0 to 1. */
  readonly random?: () => number
}

export interface JwksLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export interface Jwks extends KeySource {
  /** Number of usable keys, and the ms since they were fetched; undefined before the first fetch succeeds. */
  state(): { readonly keys: number; readonly ageMs: number | undefined }
  readonly fetches: Readonly<Record<FetchResult, number>>
}

/**
 * Creates the public key set of an issuer. It is fetched at once and then refreshed in the background, before a request
 * needs it. The last good set stays in use until a newer one arrives. A token that names an unknown key triggers an
 * extra fetch, at most twice a minute.
 */
export function createJwks(options: JwksOptions): Jwks {
  const { url, refreshMs, log, now = Date.now, after = later, random = Math.random } = options
  const fetcher = options.fetcher ?? createFetcher(url)
  const fetches = { succeeded: 0, failed: 0, timeout: 0, too_large: 0, invalid: 0 }
  let keys: ReadonlyMap<string, VerificationKey> | undefined
  let fetchedAt = 0
  let triedAt = Number.NEGATIVE_INFINITY
  /** Failed fetches in a row, and the reason of the last one. */
  let failures = 0
  let failed = ''
  let underWay: Promise<void> | undefined
  let waiting = 0
  let closed = false
  /** Time at which the next fetch begins. */
  let nextAt = 0
  /** The faults of single keys that were last logged. */
  let told = ''
  let cancel = () => {}

  function schedule(): void {
    cancel()
    const retry = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** Math.min(failures - 1, 10))
    const wait = failures === 0 ? refreshMs : retry
    // Jitter keeps the fetches of several gateways apart; a fetch is never later than `wait`.
    const ms = wait * (0.8 + 0.2 * random())
    nextAt = now() + ms
    cancel = after(ms, () => void refresh())
  }

  /** Fetches the set, one fetch at a time. Never rejects. */
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

  /** Looks for keys in the current set. */
  function look(algorithm: TokenAlgorithm, kid: string | undefined): FoundKeys {
    if (keys === undefined)
      return unavailable(
        failures === 0 ? 'its keys are not loaded yet' : `its keys could not be fetched: ${failed}`,
      )
    const found: VerificationKey[] = []
    for (const key of keys.values())
      if ((kid === undefined || key.kid === kid) && fits(key, algorithm)) found.push(key)
    if (found.length === 1) return found
    if (found.length > 1) return noSuchKey(`it names no key, and ${found.length} could be meant`)
    const why =
      kid === undefined ? `no key is for ${algorithm}` : `no key for ${algorithm} is named ${shown(kid)}`
    // While the set cannot be fetched, the key may exist.
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
      // Only an unknown key id can appear with the next fetch.
      const mayCome = keys === undefined || kid !== undefined
      if (!mayCome) return found
      const due = keys !== undefined && now() - triedAt >= COOLDOWN_MS
      if (underWay === undefined && !due) return found
      if (waiting >= MAX_WAITING) return unavailable('too many requests wait for its keys')
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

/**
 * Reads the usable keys of a set. A key that was there before keeps its object.
 *
 * @throws FetchFailure when there is none: a set that is empty by mistake must not replace a good one
 */
function readSet(
  text: string,
  before: ReadonlyMap<string, VerificationKey> | undefined,
): { found: Map<string, VerificationKey>; problems: string[] } {
  const set = parseJson(text)
  if (set === undefined) throw new FetchFailure('invalid', 'it sends no JSON')
  const list = fieldsOf(set).keys
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
    // Two keys share an id, and nothing says which is meant: take the first, like other readers that keep a set as a
    // list.
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
