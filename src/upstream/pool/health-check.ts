import type { HealthCheck } from '../../config/snapshot/snapshot.js'
import type { ResponseHandler, Sender } from '../sender.js'

export interface CheckResult {
  /** Unix ms at which it ended. */
  readonly at: number
  readonly passed: boolean
  /** How long it took. */
  readonly ms: number
  /** The status, or why there is none. May name addresses: for operators only. */
  readonly detail: string
}

/** What is checked, and how. */
export interface CheckSubject {
  readonly settings: HealthCheck
  /** The value of the Host header. */
  readonly host: string
  /** Opens connections of the check's own, one a check. */
  readonly open: () => Sender
}

/** Told of every check; `up` is what so many in a row amount to, undefined until they do. */
export type Checked = (result: CheckResult, up: boolean | undefined) => void

export interface HealthChecks {
  /**
   * Checks until it is stopped. Who asks for the same `key` shares the checks.
   *
   * @param key says what is checked and how, all of it
   * @returns call it to stop
   */
  watch(key: string, subject: CheckSubject, checked: Checked): () => void
  close(): void
}

/** Of an answer that is longer, the rest is not waited for. */
const MOST_BYTES = 65_536
/** The first checks of all upstreams are spread over this. */
const SPREAD_MS = 500

interface Checker {
  readonly watchers: Set<Checked>
  stop(): void
}

/** @param random from 0 to below 1 */
export function createHealthChecks(random: () => number = Math.random): HealthChecks {
  const checkers = new Map<string, Checker>()
  return {
    watch(key, subject, checked) {
      let checker = checkers.get(key)
      if (checker === undefined) {
        checker = startChecker(subject, random)
        checkers.set(key, checker)
      }
      const { watchers, stop } = checker
      watchers.add(checked)
      return () => {
        watchers.delete(checked)
        if (watchers.size > 0 || checkers.get(key)?.watchers !== watchers) return
        checkers.delete(key)
        stop()
      }
    },
    close() {
      for (const { stop } of checkers.values()) stop()
      checkers.clear()
    },
  }
}

/**
 * Ms until the next check: give or take a tenth, so that gateways that were started together do not ask together.
 *
 * @param took ms that the last one took, which are part of the interval
 * @param random from 0 to below 1
 */
export function untilNext(interval: number, took: number, random: number): number {
  return Math.max(interval * (0.9 + 0.2 * random) - took, 0)
}

function startChecker(subject: CheckSubject, random: () => number): Checker {
  const { interval, healthyAfter, unhealthyAfter } = subject.settings
  const watchers = new Set<Checked>()
  let stopped = false
  let running: (() => void) | undefined
  /** Above 0: passed in a row; below: failed in a row. */
  let row = 0

  function check(): void {
    const began = performance.now()
    running = checkOnce(subject, (passed, detail) => {
      running = undefined
      if (stopped) return
      const ms = performance.now() - began
      row = passed ? Math.max(row, 0) + 1 : Math.min(row, 0) - 1
      const up = row >= healthyAfter ? true : row <= -unhealthyAfter ? false : undefined
      for (const checked of watchers) checked({ at: Date.now(), passed, ms, detail }, up)
      timer = setTimeout(check, untilNext(interval, ms, random()))
      timer.unref()
    })
  }
  let timer = setTimeout(check, random() * Math.min(interval, SPREAD_MS))
  timer.unref()

  return {
    watchers,
    stop() {
      stopped = true
      clearTimeout(timer)
      running?.()
    },
  }
}

/**
 * One check on a connection of its own, with nothing of any caller in it.
 *
 * @returns call it to break the check off
 */
function checkOnce(
  { settings, host, open }: CheckSubject,
  done: (passed: boolean, detail: string) => void,
): () => void {
  const sender = open()
  let status = 0
  let bytes = 0
  let over = false
  const end = (passed: boolean, detail: string): void => {
    if (over) return
    over = true
    clearTimeout(patience)
    // Destroyed, as an answer that goes on is not worth its bytes.
    sender.destroy().catch(() => {})
    done(passed, detail)
  }
  const judged = (): void => end(settings.statuses.has(status), `status ${status}`)
  const patience = setTimeout(
    () => end(false, `no ${status === 0 ? '' : 'whole '}answer within ${settings.timeout} ms`),
    settings.timeout,
  )
  const handler: ResponseHandler = {
    onConnect() {},
    onHeaders(code) {
      if (code >= 200) status = code
    },
    onData(chunk) {
      bytes += chunk.length
      if (bytes > MOST_BYTES) judged()
      return true
    },
    onComplete: judged,
    onError(error: NodeJS.ErrnoException) {
      end(false, error.code ?? error.message)
    },
  }
  sender.dispatch(
    {
      method: 'GET',
      path: settings.path,
      fields: ['Host', host, 'User-Agent', 'tidegate-health-check', 'Accept', '*/*'],
      body: null,
      length: -1,
      last: true,
    },
    handler,
  )
  return () => end(false, 'broken off')
}
