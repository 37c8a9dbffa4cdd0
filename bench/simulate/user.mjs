/** Simulates users one after the other: each sends its requests of a whole run through the real limiter, on a virtual clock. */

import { ALGORITHMS } from '../../dist/limiter/algorithms/by-name.js'
import { createLocal } from '../../dist/limiter/local.js'
import { createMemoryLimiter } from '../../dist/limiter/memory.js'
import { exponential, poisson } from '../harness/random.mjs'
import { arrivalsOf, intensityOf } from './arrivals.mjs'
import { asksOfAll, rememberedMs } from './denials.mjs'
import { createLog } from './exact-log.mjs'
import { phasesOf } from './failures.mjs'
import { idOf } from './population.mjs'
import { bytesOfKey } from './redis-memory.mjs'
import { keyOf, placeOf, serviceOf, valueBytes } from './service.mjs'
import { addUser } from './tally.mjs'

/** Unix ms at which a run begins unless it says otherwise: a full hour. */
export const EPOCH = 1_800_000_000_000
/** Windows before the run, after which a user's counts no longer depend on where they began. */
const WARM_UP = 4
/** Keys of a limiter that counts one user at a time. */
const FEW = 16

/**
 * Returns a function that simulates one user and adds what it did to a tally.
 *
 * @param epoch unix ms at which the run begins
 * @param warms false: nothing was counted before the run
 */
export function createUsers(scenario, { epoch = EPOCH, warms = true } = {}) {
  const { runMs, buckets, primaries, gateways, idLength } = scenario
  const { service, policies } = serviceOf(scenario)
  const windows = Object.values(policies).flatMap(({ limits }) => limits.map(({ windowMs }) => windowMs))
  const start = warms ? -WARM_UP * Math.max(...windows) : 0
  const intensity = intensityOf(scenario)
  const phases = Array.from({ length: primaries }, (_, primary) => phasesOf(scenario, primary, start))
  const logsOf = () =>
    Object.fromEntries(Object.entries(policies).map(([tier, { limits }]) => [tier, createLog(limits)]))
  /** Of all that was admitted, and of what a limiter with such a log would have admitted. */
  const [admissions, exactOnes] = [logsOf(), logsOf()]
  const bucketMs = runMs / buckets
  let clock = 0
  const now = () => clock
  /** Of each gateway: ms until which it remembers a denial, the latest decision that it has seen, its counts without the store. */
  const remembers = new Float64Array(gateways)
  const verdicts = new Array(gateways)
  const locals = new Array(gateways)

  return function simulate({ rank, tier, demand }, random, tally) {
    const id = idOf(rank, idLength)
    const policy = policies[tier]
    const { parts } = policy
    const key = keyOf(service, policy, id)
    const keys = [key]
    const { primary, slot } = placeOf(key, primaries)
    const bytes = bytesOfKey(key.length, valueBytes(policy))
    const [log, exact] = [admissions[tier], exactOnes[tier]]
    const own = phases[primary]
    const arrivals = arrivalsOf(scenario, intensity, demand, start, random)
    const totals = {
      requests: 0,
      asked: 0,
      admitted: 0,
      exact: 0,
      denied: 0,
      over: 0,
      under: 0,
      keyMs: 0,
      seen: 0,
    }
    const { flows } = tally
    const limiter = createMemoryLimiter({ maxKeys: FEW, now })
    let phase = own[0]
    let index = 0
    let saved
    /** Ms from which there has been a key, and at which it expires. */
    let born = 0
    let expires = Number.NEGATIVE_INFINITY
    remembers.fill(Number.NEGATIVE_INFINITY)
    verdicts.fill(undefined)
    locals.fill(undefined)
    log.clear()
    exact.clear()

    /** Counts `n` requests of a kind at a moment of the run. */
    function count(flow, t, n) {
      if (t < 0) return
      flows[flow][Math.floor(t / bucketMs) * primaries + primary] += n
      if (flow in totals) totals[flow] += n
    }

    /** The same over a time, as the intensity goes. */
    function countOver(flow, from, to, n) {
      const whole = intensity.sum(to) - intensity.sum(from)
      for (let at = Math.max(0, from); at < to && n !== 0; ) {
        const end = Math.min(to, (Math.floor(at / bucketMs) + 1) * bucketMs)
        count(flow, at, (n * (intensity.sum(end) - intensity.sum(at))) / whole)
        at = end
      }
    }

    /** Ends the present key at its expiry or, if it is lost, before. */
    function endKey(at) {
      const from = Math.max(0, born)
      const to = Math.min(at, runMs)
      expires = Number.NEGATIVE_INFINITY
      if (to <= from) return
      totals.keyMs += to - from
      for (const [cells, n] of [
        [tally.keys, 1],
        [tally.bytes, bytes],
      ]) {
        addStep(cells, from, n)
        addStep(cells, to, -n)
      }
    }

    /** Adds n from a moment on, to the part of its bucket that is left and to all later buckets. */
    function addStep(cells, at, n) {
      const bucket = Math.floor(at / bucketMs)
      const passed = at / bucketMs - bucket
      if (bucket < buckets) cells[bucket * primaries + primary] += n * (1 - passed)
      if (bucket + 1 < buckets) cells[(bucket + 1) * primaries + primary] += n * passed
    }

    function enter() {
      if (phase.enter === 'keep') saved = limiter.peek(key)?.counts.slice()
      if (phase.enter === 'drop' || (phase.enter === 'restore' && saved === undefined)) {
        limiter.reset(service, id)
        if (expires > phase.from) endKey(phase.from)
      } else if (phase.enter === 'restore') {
        const counts = limiter.peek(key).counts
        for (let i = 0; i < counts.length; i++) counts[i] = saved[i]
      }
    }

    function advance(t) {
      while (t >= phase.to && index + 1 < own.length) {
        phase = own[++index]
        enter()
      }
    }

    function admit(t, hadRoom) {
      log.add(clock)
      if (t < 0) return
      totals.admitted++
      if (!hadRoom) count('over', t, 1)
    }

    function deny(t, hadRoom) {
      count('denied', t, 1)
      if (hadRoom) count('under', t, 1)
    }

    function decideExactly(t) {
      if (!exact.hasRoom(epoch + Math.floor(t))) return
      exact.add(epoch + Math.floor(t))
      count('exact', t, 1)
    }

    function decideWithout(t, gateway) {
      const hadRoom = log.hasRoom(clock)
      if (scenario.onFailure === 'open') {
        count('uncounted', t, 1)
        admit(t, hadRoom)
        return
      }
      if (scenario.onFailure === 'closed') {
        count('closed', t, 1)
        deny(t, hadRoom)
        return
      }
      if (locals[gateway] === undefined) {
        locals[gateway] = createLocal(FEW, () => phase.alive, now)
        if (verdicts[gateway] !== undefined) locals[gateway].saw(keys, parts, verdicts[gateway])
        tally.localPairs[phase.failure] = (tally.localPairs[phase.failure] ?? 0) + 1
      }
      count('local', t, 1)
      if (locals[gateway].take('breaker', service, policy, id, 1).allowed) admit(t, hadRoom)
      else deny(t, hadRoom)
    }

    /** Charges what a gateway has admitted without the store, as far as it still counts and there is room (lua/settle.lua). */
    function payOwed(local) {
      const entry = limiter.peek(key)
      if (entry === undefined) return
      const owed = local.claim(key)
      if (owed === undefined) return
      let o = 0
      for (const limit of parts[0].limits) {
        const { size, roll, free, add } = ALGORITHMS[limit.algorithm]
        roll(limit, owed, o, clock)
        const t = clock + roll(limit, entry.counts, o, clock)
        const used = limit.burst - free(limit, owed, o, clock)
        const room = Math.max(0, free(limit, entry.counts, o, t))
        if (used > 0) add(limit, entry.counts, o, Math.min(used, room))
        o += size
      }
      local.paid(key)
    }

    /** Asks the store. Returns the denial of a user whose next requests can be skipped over. */
    function askStore(t, gateway) {
      if (locals[gateway]?.owes()) payOwed(locals[gateway])
      const hadRoom = log.hasRoom(clock)
      const decision = limiter.take(service, policy, id, 1)
      tally.takes++
      count('asked', t, 1)
      verdicts[gateway] = decision
      if (decision.allowed) {
        admit(t, hadRoom)
        if (t >= expires) {
          if (expires > Number.NEGATIVE_INFINITY) endKey(expires)
          born = t
        }
        expires = limiter.peek(key).expires - epoch
        return undefined
      }
      deny(t, hadRoom)
      remembers[gateway] = t + rememberedMs(decision)
      return arrivals.steady && phase.cut === 0 ? decision : undefined
    }

    /**
     * Skips to the moment at which the user may pass again. Until then every request is denied, whatever comes: so only their number
     * is drawn, and how often the gateways ask. A limiter with an exact log might admit some of them.
     */
    function skip(t, denial) {
      const { retryMs, resetMs, binding } = denial
      const retry = retryMs < 0 ? runMs : clock - epoch + retryMs
      const end = Math.min(retry, phase.to, runMs)
      const share = intensity.sum(end) - intensity.sum(t)
      if (end <= t) return
      const room = Math.min(end, Math.max(t, log.roomAt(clock) - epoch))
      const before = poisson(random, demand * (intensity.sum(room) - intensity.sum(t)))
      const after = poisson(random, demand * (intensity.sum(end) - intensity.sum(room)))
      const rate = (demand * share) / (end - t)
      const { windowMs } = policy.limits[binding]
      const asks = asksOfAll(rate, phase.alive, end - t, { resetMs, windowMs })
      countOver('requests', t, end, before + after)
      countOver('denied', t, end, before + after)
      countOver('under', room, end, after)
      countOver('asked', t, end, asks)
      countOver('remembered', t, end, before + after - asks)
      if (asks > phase.alive / 2) verdicts.fill(denial)
      for (let at = t; at < end; ) {
        const from = Math.max(at, exact.roomAt(epoch + Math.floor(at)) - epoch)
        at = intensity.when(intensity.sum(from) + exponential(random, 1 / demand))
        if (at < end) decideExactly(at)
      }
      arrivals.skipTo(end)
    }

    for (let t = arrivals.next(); t < runMs; t = arrivals.next()) {
      advance(t)
      clock = epoch + Math.floor(t)
      const gateway = Math.floor(random() * phase.alive)
      count('requests', t, 1)
      decideExactly(t)
      if (phase.away || gateway < phase.cut) decideWithout(t, gateway)
      else if (t < remembers[gateway]) {
        count('remembered', t, 1)
        deny(t, log.hasRoom(clock))
      } else {
        const denial = askStore(t, gateway)
        if (denial !== undefined) skip(t, denial)
      }
    }
    advance(runMs)
    if (expires > Number.NEGATIVE_INFINITY) endKey(expires)
    totals.seen = totals.requests > 0 ? 1 : 0
    addUser(tally, totals)
    return { rank, tier, slot, primary, demand, ...totals }
  }
}
