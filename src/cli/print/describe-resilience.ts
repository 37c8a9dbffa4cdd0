import type { Service, Snapshot } from '../../config/snapshot/snapshot.js'
import { formatDuration } from '../../config/values/quantities.js'
import { details } from './terminal.js'

/** Describes the configured behaviour under overload and failure; empty if nothing is configured. */
export function describeResilience(snapshot: Snapshot, columns?: number): string {
  const rows = snapshot.services.flatMap((service) => {
    const text = [describeBreaker(service), describeConcurrency(service)].filter((part) => part !== '')
    return text.length === 0 ? [] : [[service.name, text.join('; ')]]
  })
  const said = snapshot.config.tiers.some(({ priority }) => priority !== undefined)
  if (rows.length === 0 && !said) return ''
  const order = [['shed first', shedOrder(snapshot).join(', then ')]]
  return `\nunder overload\n${details([...order, ...rows], columns)}\n`
}

/** Lists the tiers by priority class, from the class that is shed first. */
function shedOrder({ tiers, priorities, classes }: Snapshot): string[] {
  return Array.from({ length: classes }, (_, rank) =>
    tiers.filter((_, i) => priorities[i] === rank).join(' and '),
  )
}

function describeBreaker({ circuitBreaker: breaker }: Service): string {
  if (breaker === undefined) return ''
  const { errorRatio, slowMs, slowRatio, windowMs, openMs } = breaker
  const slow =
    slowMs === Number.POSITIVE_INFINITY
      ? ''
      : ` or ${percent(slowRatio)} slower than ${formatDuration(slowMs)}`
  return `circuit opens for ${formatDuration(openMs)} at ${percent(errorRatio)} errors${slow} in ${formatDuration(windowMs)}`
}

function describeConcurrency({ concurrency }: Service): string {
  return concurrency === undefined ? '' : `${concurrency.min} to ${concurrency.max} requests at once`
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

/** Returns the settings of one service for a program. */
export function resilienceData({ retries, circuitBreaker: breaker, concurrency }: Service): object {
  return {
    retries: { budget: Math.round(retries.budget * 100), attempts: retries.attempts },
    circuit_breaker: breaker && {
      error_ratio: Math.round(breaker.errorRatio * 100),
      slow_ms: Number.isFinite(breaker.slowMs) ? breaker.slowMs : 0,
      slow_ratio: Math.round(breaker.slowRatio * 100),
      window_ms: breaker.windowMs,
      min_requests: breaker.minRequests,
      open_ms: breaker.openMs,
      probes: breaker.probes,
    },
    concurrency,
  }
}
