import { lookup as bySystem } from 'node:dns'
import type { LookupFunction } from 'node:net'
import type { ForwardCheck } from '../config/snapshot/forward.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import { A_MINUTE, throttledWarning } from '../log-throttle.js'
import { createShares } from '../shares.js'
import { type AuthService, type AuthServiceDeps, createAuthService } from './auth-service.js'
import type { AuthRequest, AuthResult } from './auth-verdict.js'

export interface AuthReading {
  readonly service: string
  readonly results: Readonly<Record<AuthResult, number>>
}

export type ForwardAuth = ReturnType<typeof createForwardAuth>

/** Creates the clients of the services that decide on requests. */
export function createForwardAuth({
  log,
  lookup = bySystem as LookupFunction,
  shares = createShares(),
  ...rest
}: Partial<AuthServiceDeps> & Pick<AuthServiceDeps, 'log'>) {
  const bySettings = new Map<string, AuthService>()
  /** Counts for the lifetime of the process, so that no counter ever goes back. */
  const counts = new Map<string, Record<AuthResult, number>>()
  const warn = throttledWarning(log, A_MINUTE)

  function open(check: ForwardCheck): AuthService {
    const results = counts.get(check.name) ?? { cached: 0, allowed: 0, denied: 0, failed: 0, busy: 0 }
    counts.set(check.name, results)
    const service = createAuthService(check, results, { log, lookup, shares, ...rest })
    bySettings.set(check.key, service)
    return service
  }

  return {
    /** Asks the service of a check. Returns at once what is remembered. The promise never rejects. */
    ask: (check: ForwardCheck, request: AuthRequest) =>
      (bySettings.get(check.key) ?? open(check)).ask(request),
    unknownTier({ name }: ForwardCheck, tier: string): void {
      warn(
        { service: name, tier },
        'an auth service names a tier that tiers does not have; it counts as none',
      )
    },
    /** Closes the connections to services that are missing from this snapshot, the current one from now on. */
    retain({ consumers, routes }: Snapshot): void {
      const inUse = new Set([
        ...consumers.map((source) => (source.kind === 'forward' ? source.check.key : undefined)),
        ...routes.map(({ auth }) => auth?.forward?.key),
      ])
      for (const [key, service] of bySettings) {
        if (inUse.has(key)) continue
        bySettings.delete(key)
        service.leave()
      }
    },
    readings: (): AuthReading[] => [...counts].map(([service, results]) => ({ service, results })),
    /** Returns the names of the services that do not answer. */
    down: () => [...bySettings.values()].filter(({ up }) => !up).map(({ name }) => name),
    close(): void {
      for (const service of bySettings.values()) service.close()
      bySettings.clear()
    },
  }
}
