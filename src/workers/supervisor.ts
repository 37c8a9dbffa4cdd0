/** A process that was started and may not serve yet. */
export interface Child {
  readonly pid: number
  /** Resolves once the process serves. Rejects with a message for the operator when it cannot, or has ended before. */
  readonly serving: Promise<void>
  /** Resolves with how the process ended: `code 1`, `SIGKILL`. */
  readonly ended: Promise<string>
  /** Asks the process to finish requests in flight and to exit; it still accepts connections for `delayMs`. */
  drain(delayMs: number): void
  kill(): void
}

export type State = 'starting' | 'serving' | 'draining'

/** One worker process. */
export interface SupervisedWorker<C extends Child = Child> {
  /** Slot number, from 1; a replacement has the same. */
  readonly place: number
  /** Generation, from 1: each restart adds one. */
  readonly generation: number
  readonly child: C
  readonly state: State
  /** Unix ms. */
  readonly startedAt: number
}

export interface SupervisorOptions<C extends Child = Child> {
  readonly count: number
  readonly fork: (place: number) => C
  readonly log: Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>
  /** Returns the ms that a draining worker may take after its delay. */
  readonly graceMs: () => number
  readonly onEnded?: (member: SupervisedWorker<C>, reason: 'drained' | 'failed') => void
  /** Ms before the first replacement of a worker; doubled each time that one fails soon. */
  readonly firstDelayMs?: number
  readonly longestDelayMs?: number
  /** Ms after which a failing worker no longer counts as one that fails again at once. */
  readonly settledMs?: number
  /** Ms within which a worker has to serve. */
  readonly startMs?: number
  /** Ms for which a worker that is replaced asks its clients to leave before it closes. */
  readonly leaveMs?: number
  /** Ms beyond the configured drain time after which a worker is killed. */
  readonly marginMs?: number
}

interface Place<C extends Child> {
  readonly number: number
  member: Running<C> | undefined
  /** Failures in a row, each soon after the one before. */
  failures: number
  timer: NodeJS.Timeout | undefined
}

interface Running<C extends Child> extends SupervisedWorker<C> {
  readonly slot: Place<C>
  state: State
  /** `performance.now()` when the worker began to serve. */
  since: number
  gone: Promise<void>
}

/** Keeps `count` workers serving. */
export function createSupervisor<C extends Child>(options: SupervisorOptions<C>) {
  const { count, fork, log, graceMs, onEnded } = options
  const { firstDelayMs = 1000, longestDelayMs = 30_000, settledMs = 60_000 } = options
  const { startMs = 30_000, leaveMs = 1000, marginMs = 5000 } = options
  const slots = Array.from(
    { length: count },
    (_, i): Place<C> => ({ number: i + 1, member: undefined, failures: 0, timer: undefined }),
  )
  const members = new Set<Running<C>>()
  let phase: 'starting' | 'running' | 'stopping' = 'starting'
  let generation = 1
  let restarting = false
  let stopped: Promise<void> | undefined

  function begin(slot: Place<C>): Running<C> {
    const child = fork(slot.number)
    const patience = setTimeout(() => {
      log.error(
        { worker: slot.number, pid: child.pid, after_ms: startMs },
        'a worker did not start in time; killing it',
      )
      child.kill()
    }, startMs)
    const member: Running<C> = {
      slot,
      place: slot.number,
      generation,
      child,
      state: 'starting',
      startedAt: Date.now(),
      since: Number.POSITIVE_INFINITY,
      gone: Promise.resolve(),
    }
    members.add(member)
    child.serving.then(
      () => {
        clearTimeout(patience)
        if (member.state === 'starting') member.state = 'serving'
        member.since = performance.now()
      },
      () => clearTimeout(patience),
    )
    member.gone = child.ended.then((how) => {
      clearTimeout(patience)
      members.delete(member)
      ended(member, how)
    })
    return member
  }

  function ended(member: Running<C>, how: string): void {
    const { slot } = member
    onEnded?.(member, member.state === 'draining' && how === 'code 0' ? 'drained' : 'failed')
    if (slot.member !== member) return
    slot.member = undefined
    if (phase === 'running') replaceLater(slot, member, how)
  }

  function replaceLater(slot: Place<C>, { child, since }: Running<C>, how: string): void {
    if (performance.now() - since >= settledMs) slot.failures = 0
    const delay = Math.min(longestDelayMs, firstDelayMs * 2 ** slot.failures)
    slot.failures++
    log.error(
      { worker: slot.number, pid: child.pid, ended: how, next_in_ms: delay },
      'a worker ended; another replaces it',
    )
    slot.timer = setTimeout(() => replace(slot), delay)
  }

  function replace(slot: Place<C>): void {
    slot.timer = undefined
    // A restart in progress fills the slot, or comes back to it when it fails.
    if (restarting || phase !== 'running' || slot.member !== undefined) return
    const member = begin(slot)
    slot.member = member
    member.child.serving.then(
      () => log.info({ worker: slot.number, pid: member.child.pid }, 'a new worker serves'),
      (error: Error) => log.error({ worker: slot.number, error: error.message }, 'a new worker cannot start'),
    )
  }

  async function drain(member: Running<C>, delayMs: number): Promise<void> {
    member.state = 'draining'
    member.child.drain(delayMs)
    const patience = setTimeout(
      () => {
        log.warn({ worker: member.place, pid: member.child.pid }, 'a worker did not end in time; killing it')
        member.child.kill()
      },
      delayMs + graceMs() + marginMs,
    )
    await member.gone
    clearTimeout(patience)
  }

  async function discard(some: Iterable<Running<C>>): Promise<void> {
    await Promise.all(
      Array.from(some, (member) => {
        member.child.kill()
        return member.gone
      }),
    )
  }

  /** Resolves with the reason if not all of them serve. */
  async function failureOf(some: readonly Running<C>[]): Promise<string | undefined> {
    try {
      await Promise.all(some.map(({ child }) => child.serving))
    } catch (error) {
      return (error as Error).message
    }
    if (phase === 'stopping') return 'the gateway is stopping'
    // A worker may have been the first to serve, and have ended before the last one did.
    return some.every((member) => members.has(member)) ? undefined : 'a worker ended right after its start'
  }

  async function restartAll(): Promise<boolean> {
    generation++
    const fresh = slots.map(begin)
    const failure = await failureOf(fresh)
    if (failure !== undefined) {
      await discard(fresh)
      if (phase === 'running')
        log.error({ error: failure }, 'the new workers did not start; the old ones keep serving')
      return false
    }
    const old = slots.map((slot, i) => {
      clearTimeout(slot.timer)
      slot.timer = undefined
      const before = slot.member
      slot.member = fresh[i]
      slot.failures = 0
      return before
    })
    for (const member of old) if (member !== undefined) await drain(member, leaveMs)
    return true
  }

  return {
    /** Starts all workers. Rejects when one of them cannot start; then none is left. */
    async start(): Promise<void> {
      for (const slot of slots) slot.member = begin(slot)
      const failure = await failureOf([...members])
      if (failure !== undefined) {
        phase = 'stopping'
        await discard(members)
        throw new Error(failure)
      }
      phase = 'running'
    },
    /** Replaces all workers by new ones; none leaves before its successor serves. Resolves with true on success. */
    async restart(): Promise<boolean> {
      if (phase !== 'running' || restarting) {
        log.warn({}, 'not restarting: a restart is in progress, or the gateway is starting or stopping')
        return false
      }
      restarting = true
      log.info({ generation: generation + 1 }, 'restarting: the old workers leave once the new ones serve')
      const done = await restartAll()
      restarting = false
      if (done) log.info({ generation }, 'restarted: all workers are new')
      for (const slot of slots) if (slot.timer === undefined) replace(slot)
      return done
    },
    /** Drains all workers. Idempotent. */
    stop(delayMs: number): Promise<void> {
      stopped ??= (async () => {
        phase = 'stopping'
        for (const { timer } of slots) clearTimeout(timer)
        await Promise.all(
          Array.from(members, (member) => {
            if (member.state !== 'starting') return drain(member, delayMs)
            return discard([member])
          }),
        )
      })()
      return stopped
    },
    members: (): readonly SupervisedWorker<C>[] => [...members],
  }
}
