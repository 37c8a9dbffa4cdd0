/** When users ask: at random moments, more often at some hours, and in visits. */
import { exponential } from '../harness/random.mjs'

/** Share of the time in visits above which a user counts as one that asks without pause. */
const CROWDED = 0.2
/** Entries of the table that the inverse of the intensity looks up first. */
const PLACES = 1024

/**
 * Returns the intensity of requests over a run: `sum(ms)` is the share of the run's requests that are due until then, `when` its
 * inverse. Before and after the run, the same day repeats.
 *
 * @param hours relative intensity of equal parts of the run. It changes evenly between their middles
 */
export function intensityOf({ hours, runMs, buckets }) {
  const parts = Math.max(buckets, hours.length)
  const sums = new Float64Array(parts + 1)
  for (let i = 0; i < parts; i++) sums[i + 1] = sums[i] + intensityAt(hours, (i + 0.5) / parts)
  const all = sums[parts]
  for (let i = 0; i <= parts; i++) sums[i] /= all

  /** Part from which the search for a share begins. */
  const near = new Uint16Array(PLACES + 1)
  for (let place = 0, i = 0; place <= PLACES; place++) {
    while (i < parts - 1 && sums[i + 1] <= place / PLACES) i++
    near[place] = i
  }
  return {
    sum(ms) {
      const days = Math.floor(ms / runMs)
      const place = ((ms - days * runMs) / runMs) * parts
      const i = Math.min(parts - 1, Math.floor(place))
      return days + sums[i] + (place - i) * (sums[i + 1] - sums[i])
    },
    when(share) {
      const days = Math.floor(share)
      const left = share - days
      let i = near[Math.floor(left * PLACES)]
      while (i < parts - 1 && sums[i + 1] <= left) i++
      return (days + (i + (left - sums[i]) / (sums[i + 1] - sums[i])) / parts) * runMs
    },
  }
}

function intensityAt(hours, share) {
  const place = share * hours.length - 0.5
  const i = Math.floor(place)
  const at = (k) => hours[(k + hours.length) % hours.length]
  return at(i) + (place - i) * (at(i + 1) - at(i))
}

/**
 * Returns the arrivals of one user. `next()` is the ms of the next request. `skipTo(ms)` goes on from there, where nothing is
 * known of earlier requests; only a user without pause (`steady`) can do that.
 *
 * @param demand requests that are expected in the run
 * @param from ms at which the user begins
 */
export function arrivalsOf({ visit, spacingMs, runMs }, intensity, demand, from, random) {
  const inVisits = (demand / visit) * (visit - 1) * (spacingMs / runMs)
  const steady = inVisits > CROWDED || visit <= 1
  // Of the run's requests, the share that is due between two visits, without the time of the visit itself.
  const pause = steady ? 1 / demand : (1 - inVisits) / (demand / visit)
  let share = intensity.sum(from)
  let at = from
  const later = () => {
    share += exponential(random, pause)
    at = Math.max(at, intensity.when(share))
    return at
  }
  if (steady) {
    return {
      steady,
      next: later,
      skipTo(ms) {
        at = ms
        share = intensity.sum(ms)
      },
    }
  }
  let begun = false
  return {
    steady,
    next() {
      if (!begun || random() < 1 / visit) {
        begun = true
        share = intensity.sum(at)
        return later()
      }
      at += exponential(random, spacingMs)
      return at
    },
    skipTo() {
      throw new Error('a user who asks in visits cannot be skipped over')
    },
  }
}
