import { lookup as bySystem } from 'node:dns'
import type { LookupFunction } from 'node:net'
import type { ForwardCheck } from '../config/snapshot/forward.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import { A_MINUTE, type Log, throttledWarning } from '../log-throttle.js'
import { createShares, type Shares } from '../shares.js'
import { type AuthService, type AuthServiceDeps, createAuthService } from './auth-service.js'
import type { AuthRequest, AuthResult, AuthVerdict } from './auth-verdict.js'

export interface AuthReading {
  readonly service: string
  readonly results: Readonly<Record<AuthResult, number>>
}

/** Services that decide on requests. */
export interface ForwardAuth {
  /** Asks the service of a check. Returns at once what is remembered. The promise never rejects. */
  ask(check: ForwardCheck, request: AuthRequest): AuthVerdict | Promise<AuthVerdict>
  /** Reports a tier that the configuration does not have. */
  unknownTier(check: ForwardCheck, tier: string): void
  /** Closes the connections to services that are missing from this snapshot, the current one from now on. */
  retain(snapshot: Snapshot): void
  readings(): Iterable<AuthReading>
  /** Returns the names of the services that do not answer. */
  down(): string[]
  close(): void
}

export interface ForwardAuthOptions extends Partial<Omit<AuthServiceDeps, 'log'>> {
  readonly log: Log
}

export function createForwardAuth({
  log,
  lookup = bySystem as LookupFunction,
  shares = createShares() as Pick<Shares, 'open' | 'callerOf'>,
  ...rest
}: ForwardAuthOptions): ForwardAuth {
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
    ask: (check, request) => (bySettings.get(check.key) ?? open(check)).ask(request),
    unknownTier({ name }, tier) {
      warn(
        { service: name, tier },
        'an auth service names a tier that tiers does not have; it counts as none',
      )
    },
    retain({ consumers, routes }) {
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
    readings: () => [...counts].map(([service, results]) => ({ service, results })),
    down: () => [...bySettings.values()].filter(({ up }) => !up).map(({ name }) => name),
    close() {
      for (const service of bySettings.values()) service.close()
      bySettings.clear()
    },
  }
}
