/** Sends the same requests through each algorithm and through an exact log, and counts where they differ. */
import { arrivalsOf, CLASSES, LIMIT, WINDOW_MS } from './traffic.mjs'

export const ALGORITHMS = ['sliding', 'strict', 'token_bucket', 'fixed']
/** Minimum shares of the exact volume that the project promises. */
export const MARKS = { slidingAdmitted: 0.98, strictAdmitted: 0.94 }

/** Keeps the time of every admission. `inWindow(t)` counts those in (t - window, t]. */
function createLog() {
  const times = []
  let first = 0
  return {
    inWindow(t) {
      while (first < times.length && times[first] <= t - WINDOW_MS) first++
      return times.length - first
    },
    add: (t) => times.push(t),
    total: () => times.length,
  }
}

/** The exact log limiter: it admits a request if it has admitted fewer than the limit in the window that ends with it. */
function exactAdmissions(arrivals) {
  const log = createLog()
  for (const t of arrivals) if (log.inWindow(t) < LIMIT) log.add(t)
  return log.total()
}

/** @param take decides one request of cost 1 at unix ms t */
function judge(arrivals, take) {
  const log = createLog()
  let requests = 0
  let wronglyPassed = 0
  let wronglyDenied = 0
  let peak = 0
  for (const t of arrivals) {
    requests++
    const room = log.inWindow(t) < LIMIT
    const allowed = take(t)
    if (allowed) {
      log.add(t)
      if (!room) wronglyPassed++
      peak = Math.max(peak, log.inWindow(t))
    } else if (room) wronglyDenied++
  }
  return { requests, admitted: log.total(), wronglyPassed, wronglyDenied, peak }
}

/**
 * @param open (algorithm, amount, windowMs) → a function of unix ms that decides one request: a new limiter
 * @param windows of traffic in each class, a multiple of 4
 * @returns a row per class and algorithm. Shares are of all requests; `ofExact` is the volume against the exact log limiter's on
 *   the same requests; `peakExcess` how far the fullest window of any position lay above the limit, as a share of it.
 */
export function measureAccuracy({ open, windows, seed }) {
  return CLASSES.flatMap((trafficClass) => {
    const exact = exactAdmissions(arrivalsOf(trafficClass, windows, seed))
    return ALGORITHMS.map((algorithm) => {
      const take = open(algorithm, LIMIT, WINDOW_MS)
      const seen = judge(arrivalsOf(trafficClass, windows, seed), take)
      return {
        traffic: trafficClass.name,
        steady: trafficClass.steady,
        algorithm,
        requests: seen.requests,
        exact,
        admitted: seen.admitted,
        ofExact: seen.admitted / exact,
        wronglyPassed: seen.wronglyPassed / seen.requests,
        wronglyDenied: seen.wronglyDenied / seen.requests,
        peakExcess: (seen.peak - LIMIT) / LIMIT,
      }
    })
  })
}

/** Compares each promise with its figures. */
export function judgeMarks(rows) {
  const steady = (algorithm) => rows.filter((row) => row.algorithm === algorithm && row.steady)
  const percent = (share) => `${(100 * share).toFixed(1)} %`
  const volume = (algorithm, least) => ({
    name: `${algorithm} admits at least ${percent(least)} of the exact volume on steady traffic`,
    figure: steady(algorithm)
      .map(({ traffic, ofExact }) => `${percent(ofExact)} (${traffic})`)
      .join(', '),
    holds: steady(algorithm).every(({ ofExact }) => ofExact >= least),
  })
  const strictPeak = Math.max(...rows.filter((r) => r.algorithm === 'strict').map((r) => r.peakExcess))
  return [
    volume('sliding', MARKS.slidingAdmitted),
    volume('strict', MARKS.strictAdmitted),
    {
      name: 'strict is never above the limit in any window, whatever the traffic',
      figure: `fullest window ${percent(1 + strictPeak)} of the limit`,
      holds: strictPeak <= 0,
    },
  ]
}
