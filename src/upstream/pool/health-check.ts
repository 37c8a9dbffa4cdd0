import { getOrAdd } from '../../common/maps.js'
import type { HealthCheck } from '../../config/snapshot/upstream-settings.js'
import type { ResponseHandler, Sender } from '../sender.js'

export interface CheckResult {
  /** Unix ms at which the check ended. */
  readonly at: number
  readonly passed: boolean
  /** Duration in ms. */
  readonly ms: number
  /** Status, or the error. May contain addresses: for operators only. */
  readonly detail: string
}

/** The target and the settings of a check. */
interface CheckSubject {
  readonly settings: HealthCheck
  /** Value of the Host header. */
  readonly host: string
  /** Opens a connection for one check. */
  readonly open: () => Sender
}

/** Called after every check; `up` is the conclusion from enough equal results in a row, undefined until then. */
export type Checked = (result: CheckResult, up: boolean | undefined) => void

/** Bytes of a response after which the check does not wait for the rest. */
const MOST_BYTES = 65_536
/** Ms over which the first checks of all upstreams are spread. */
const SPREAD_MS = 500

type Checker = ReturnType<typeof startChecker>

export type HealthChecks = ReturnType<typeof createHealthChecks>

/**
 * Creates the health checks.
 *
 * @param random returns a number from 0 to below 1
 */
export function createHealthChecks(random: () => number = Math.random) {
  const checkers = new Map<string, Checker>()
  return {
    /**
     * Checks until it is stopped. Watchers of the same `key` share the checks.
     *
     * @param key describes the target and all settings of the check
     * @returns a function that stops it
     */
    watch(key: string, subject: CheckSubject, checked: Checked): () => void {
      const { watchers, stop } = getOrAdd(checkers, key, () => startChecker(subject, random))
      watchers.add(checked)
      return () => {
        watchers.delete(checked)
        if (watchers.size > 0 || checkers.get(key)?.watchers !== watchers) return
        checkers.delete(key)
        stop()
      }
    },
    close(): void {
      for (const { stop } of checkers.values()) stop()
      checkers.clear()
    },
  }
}

/**
 * Returns the ms until the next check, with a jitter of a tenth, so that gateways that were started together do not
 * check together.
 *
 * @param took duration of the last check in ms, which is part of the interval
 * @param random number from 0 to below 1
 */
export function untilNext(interval: number, took: number, random: number): number {
  return Math.max(interval * (0.9 + 0.2 * random) - took, 0)
}

function startChecker(subject: CheckSubject, random: () => number) {
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
      timer = setTimeout(check, untilNext(interval, ms, random())).unref()
    })
  }
  let timer = setTimeout(check, random() * Math.min(interval, SPREAD_MS)).unref()

  return {
    watchers,
    stop(): void {
      stopped = true
      clearTimeout(timer)
      running?.()
    },
  }
}

/**
 * Makes one check on a connection of its own, with no data of any client.
 *
 * @returns a function that aborts the check
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
    // Destroyed, since the rest of a long response is not worth reading.
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
