import { performance } from 'node:perf_hooks'
import type { Route } from '../../config/snapshot/snapshot.js'
import type { Charge, Limiter } from '../../limiter/limiter.js'
import type { Exchange, Held } from '../exchange/exchange.js'

/** Interval between two checks for renewals, in ms. The shortest configurable lease is five times as long. */
const TICK_MS = 1_000

/** Charges of requests whose responses are not closed yet. */
export type Charges = ReturnType<typeof createCharges>

/**
 * Renews all slots held for long with one timer, each when half of its lease is over. So a tunnel of hours keeps its
 * slot, and a gateway that died does not.
 *
 * @param tickMs interval of that timer, which only runs while slots are held
 */
export function createCharges(limiter: Pick<Limiter, 'settle'>, tickMs = TICK_MS) {
  // A list with places instead of a Set: see `watchdog.ts`.
  const slots: Held[] = []
  let timer: NodeJS.Timeout | undefined

  function tick(): void {
    if (slots.length === 0) {
      clearInterval(timer)
      timer = undefined
    }
    const now = performance.now()
    for (const held of slots) if (now >= held.renewAt && held.renewing === undefined) renew(held, now)
  }

  function renew(held: Held, now: number): void {
    held.renewAt = now + renewalMs(held.charge)
    const renewing = limiter.settle(held.charge, 0, 'renew')
    if (!(renewing instanceof Promise)) return
    held.renewing = renewing.finally(() => {
      held.renewing = undefined
    })
  }

  function enlist(held: Held): void {
    held.place = slots.length
    slots.push(held)
    timer ??= setInterval(tick, tickMs).unref()
  }

  function delist(held: Held): void {
    const last = slots.pop()!
    if (last !== held) {
      slots[held.place] = last
      last.place = held.place
    }
    held.place = -1
  }

  function settleOne(x: Exchange, held: Held): void {
    const { charge, renewing } = held
    if (held.place >= 0) delist(held)
    const quota = quotaOf(x, charge)
    const slot = charge.policy.slots ? 'release' : 'keep'
    if (quota === 0 && slot === 'keep') return
    // A renewal in progress changes what is to be released.
    if (renewing === undefined) void limiter.settle(charge, quota, slot)
    else void renewing.then(() => limiter.settle(charge, quota, slot))
  }

  return {
    /**
     * Keeps a charge until the response of its exchange is closed. If it is closed already, the charge is settled at
     * once.
     */
    hold(x: Exchange, charge: Charge): void {
      const held: Held = { charge, place: -1, renewAt: 0, renewing: undefined }
      if (x.over) {
        settleOne(x, held)
        return
      }
      if (charge.policy.slots) {
        held.renewAt = performance.now() + renewalMs(charge)
        enlist(held)
      }
      if (x.held === undefined) x.held = [held]
      else x.held.push(held)
    },
    /**
     * Settles the charges when the response or tunnel is closed: releases slots, and refunds or charges quota as the
     * response requires. Call it once for every exchange, before it is recorded.
     */
    settle(x: Exchange): void {
      x.over = true
      const { held } = x
      if (held === undefined) return
      x.held = undefined
      for (const one of held) settleOne(x, one)
    },
    /** Returns the number of slots held. */
    size: (): number => slots.length,
  }
}

/** Returns half of the shortest lease, in ms. */
export function renewalMs({ policy }: Charge): number {
  let least = Number.POSITIVE_INFINITY
  for (const { algorithm, windowMs } of policy.limits) {
    if (algorithm === 'concurrency') least = Math.min(least, windowMs)
  }
  return least / 2
}

/** Returns the quota still to charge, or below 0 to refund, now that the response is known. */
function quotaOf(x: Exchange, { policy, cost }: Charge): number {
  const route = x.route!
  const live = policy === x.policy
  // If only the candidate allowed the request, the response is not the upstream's.
  if (!live && x.decision?.allowed !== true) return 0
  const due = givesBack(route, x.status, x.error) ? 0 : x.toldCost
  if (due === undefined) return 0
  if (live) x.cost = due
  return due - cost
}

/** Returns true if a request gets its quota back. */
export function givesBack(
  { refundOn }: Pick<Route, 'refundOn'>,
  status: number,
  error: string | undefined,
): boolean {
  if (refundOn === undefined) return false
  return refundOn.has(status) || (error === 'upstream_cut' && refundOn.has(error))
}
