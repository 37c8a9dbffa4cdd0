import type { LookupFunction } from 'node:net'
import type { ForwardCheck } from '../config/snapshot/forward.js'
import type { Log } from '../log-throttle.js'
import { createTurns, give, type Shares, take } from '../shares.js'
import { createSourceHealth, type HealthTexts } from '../tier-sources/source-health.js'
import { openHttp1 } from '../upstream/http1/pool.js'
import { type Answered, AuthCall, without } from './auth-call.js'
import type { AuthRequest, AuthResult, AuthVerdict } from './auth-verdict.js'
import { createGenerations } from './generations.js'

export interface AuthServiceDeps {
  readonly log: Log
  /** Resolves the name of the service. */
  readonly lookup: LookupFunction
  readonly shares: Pick<Shares, 'open' | 'callerOf'>
  /** Clock in ms, monotonic. */
  readonly now?: () => number
  readonly random?: () => number
}

export type AuthService = ReturnType<typeof createAuthService>

/** Calls to one service that are under way or wait for their turn. Past it, or the share of one client, there is none. */
const MOST_CALLS = 1024
/** Connections to a service. */
const CONNECTIONS = 64
/** Bounds of what is remembered. Strangers can fill the second memory only. */
const MOST_ALLOWED = { entries: 50_000, size: 16 * 1024 * 1024 }
const MOST_DENIED = { entries: 10_000, size: 4 * 1024 * 1024 }

const TEXTS: HealthTexts = {
  failed: 'an auth service did not decide on a request',
  down: 'the auth service does not answer; on_failure decides, and no request waits for it',
  still: 'the auth service still does not answer; on_failure decides',
  back: 'the auth service answers again',
}

interface Kept {
  readonly verdict: AuthVerdict
  /** Clock time from which it no longer counts. */
  readonly until: number
  readonly size: number
}

/**
 * Creates the client of one service. Requests that are the same to it share a call and, for a while, its response. A
 * response with Set-Cookie is for one request alone. While the service is down one request at a time finds out if it is
 * back, and the others do not wait.
 */
export function createAuthService(
  check: ForwardCheck,
  results: Record<AuthResult, number>,
  { log, lookup, shares, now = () => performance.now(), random }: AuthServiceDeps,
) {
  const { name, timeout } = check
  const allowed = createGenerations<Kept>(MOST_ALLOWED, ({ size }) => size)
  const denied = createGenerations<Kept>(MOST_DENIED, ({ size }) => size)
  const underWay = new Map<string, Promise<Answered>>()
  const share = shares.open('auth_calls', MOST_CALLS, undefined, name)
  const sender = openHttp1(check.upstream, CONNECTIONS, timeout, lookup)
  const health = createSourceHealth(name, log, random, TEXTS)
  /** Calls that wait for a connection to spare. */
  const turns = createTurns<AuthCall>(({ over }) => over)
  let running = 0

  function ask(request: AuthRequest): AuthVerdict | Promise<AuthVerdict> {
    const key = keyOf(check, request)
    const at = now()
    const kept = allowed.get(key) ?? denied.get(key)
    if (kept !== undefined && at < kept.until) {
      results.cached++
      return kept.verdict
    }
    const same = underWay.get(key)
    if (same !== undefined) {
      // A response with a cookie is for the client that caused it, as is a wait in vain for a turn. Others ask again.
      return same.then((answered) =>
        counted(answered.own || answered.verdict.kind === 'busy' ? call(request) : answered),
      )
    }
    const answer = call(request)
    if (!(answer instanceof Promise)) return counted(answer) as AuthVerdict
    underWay.set(key, answer)
    return answer.then((answered) => {
      underWay.delete(key)
      keep(key, answered, at)
      return counted(answered)
    })
  }

  function counted(answer: Answered | Promise<Answered>): AuthVerdict | Promise<AuthVerdict> {
    if (answer instanceof Promise) return answer.then(counted)
    results[answer.verdict.kind]++
    return answer.verdict
  }

  function keep(key: string, { verdict, own, size }: Answered, at: number): void {
    const { kind } = verdict
    const ms = kind === 'allowed' ? check.allowedFor : kind === 'denied' ? check.deniedFor : 0
    if (ms === 0 || own) return
    const [memory, other] = kind === 'allowed' ? [allowed, denied] : [denied, allowed]
    other.delete(key)
    memory.set(key, { verdict, until: at + ms, size: key.length + size })
  }

  /** Asks the service, or says at once why not. */
  function call(request: AuthRequest): Answered | Promise<Answered> {
    const caller = shares.callerOf(request.address)
    if (take(share, caller) !== undefined)
      return without('busy', 'too many requests wait for the service, or the share of one client')
    // A client whose requests fail must not find out again and again if the service is back.
    const asker = caller ?? request.address
    if (!health.mayAsk(now(), asker)) {
      give(share, caller)
      return without('failed', 'the service did not answer lately')
    }
    return new Promise((resolve) => {
      const made = new AuthCall(check, request, sender, resolve, (outcome, why) => {
        give(share, caller)
        const at = now()
        if (outcome === 'answered') health.answered(at)
        else if (outcome === 'failed') health.failed(at, asker, why)
        else health.unfit(at, asker, why)
        if (made.begun === 0) return
        running--
        nextTurn()
      })
      turns.push(asker, made)
      nextTurn()
    })
  }

  function nextTurn(): void {
    while (running < CONNECTIONS) {
      const next = turns.next()
      if (next === undefined) return
      running++
      next.begin()
    }
  }

  return {
    name,
    get up() {
      return health.up
    },
    ask,
    /** Takes no new requests; those under way end as they would. */
    leave: () => void sender.close(),
    close: () => void sender.destroy(),
  }
}

/** Returns one text of all that a response depends on. No part contains the separator. */
export function keyOf({ by }: Pick<ForwardCheck, 'by'>, { parts }: AuthRequest): string {
  // Joined, not added up: a lookup needs the text in one piece.
  return (by === undefined ? parts : by.map((at) => parts[at])).join('\n')
}
