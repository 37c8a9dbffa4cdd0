import { type ProcessTraffic, TRAFFIC } from '../admin/traffic-question.js'
import { SET_UPSTREAM, type UpstreamChange } from '../admin/upstream-questions.js'
import type { Ask } from '../fleet/question.js'
import type { Reading } from '../telemetry/metrics/process-counts.js'
import { TOP } from '../telemetry/top/all-gateways-top.js'
import type { Top } from '../telemetry/top/top.js'
import type { UpstreamState } from '../upstream/pool/state.js'
import { ProcessGone } from './channel.js'
import { createDrained } from './drained.js'
import type { Worker } from './fork.js'
import type { Reloaded } from './messages.js'
import type { SupervisedWorker } from './supervisor.js'
import type { WorkerReading } from './totals.js'

/** Timeout in ms for a worker to apply a configuration. A busy worker is late, not lost. */
const RELOAD_MS = 10_000
const READ_MS = 1000

/**
 * Creates the messages from the primary to all workers at once.
 *
 * @param top counts of the primary itself: the callers that the admin port refused
 */
export function createAllWorkers(
  members: () => readonly SupervisedWorker<Worker>[],
  top: Pick<Top, 'read'>,
  log: Record<'warn' | 'error', (fields: object, message: string) => void>,
) {
  const drained = createDrained()
  /** Counts of each worker as last reported, by process id. */
  const reported = new Map<number, Reading>()

  function readingOf({ child, place }: SupervisedWorker): WorkerReading | undefined {
    const reading = reported.get(child.pid)
    return reading && { place, reading }
  }

  /** Asks the workers that serve. A worker that answers too late is left out. */
  const ask: Ask = async (question, body) => {
    const serving = members().filter(({ state }) => state !== 'starting')
    const settled = await Promise.allSettled(serving.map(({ child }) => child.ask(question, body)))
    const answers = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    if (question.name === TOP.name) answers.push(await question.answer({ top } as never, body))
    const merged = question.merge(answers, body)
    if (question.name === SET_UPSTREAM.name && merged !== null) {
      const { service, state } = body as UpstreamChange
      drained.set(service, (merged as UpstreamState).address, state)
    }
    return merged
  }

  return {
    ask,
    /** Returns the upstreams that operators have drained. */
    drained: drained.all,
    /** Sends a configuration to all workers. Resolves when each has taken it over, or has failed to. */
    async reload(next: Reloaded): Promise<void> {
      await Promise.all(
        members().map(async ({ child }) => {
          const told = await child.channel
            .ask('reload', next, RELOAD_MS)
            .catch((error: Error) => (error instanceof ProcessGone ? {} : { error: error.message }))
          if (!('error' in told)) return
          log.error(
            { worker: child.place, pid: child.pid, error: told.error },
            'a worker did not apply the configuration',
          )
        }),
      )
    },
    /**
     * Sends a change of a map to all workers. Resolves when they have it, or are too late. Null: the value is deleted.
     */
    async put(map: string, key: string, text: string | null): Promise<void> {
      const each = members().map(({ child }) => child.channel.ask('put', { map, key, text }, READ_MS))
      for (const { status } of await Promise.allSettled(each)) {
        if (status === 'rejected') log.warn({ map, key }, 'a worker did not confirm a change in time')
      }
    },
    /** Returns the counts of each worker. A busy worker counts with its last report. */
    async readings(): Promise<WorkerReading[]> {
      await Promise.all(
        members().map(async (member) => {
          if (member.state === 'starting') return
          const { channel, pid } = member.child
          const reading = await channel.ask('metrics', null, READ_MS).catch(() => undefined)
          // A worker that has ended meanwhile is already counted.
          if (reading !== undefined && members().includes(member)) reported.set(pid, reading)
        }),
      )
      return members().flatMap((member) => readingOf(member) ?? [])
    },
    /** Returns the traffic of the workers that answer. */
    async traffic(): Promise<readonly ProcessTraffic[]> {
      const answers = (await ask(TRAFFIC, null)) ?? []
      // A worker that has ended meanwhile is already counted.
      return answers.filter(({ process }) => members().some(({ child }) => child.pid === process))
    },
    /** Records the last counts of a worker that has drained. */
    farewell: (pid: number, reading: Reading) => void reported.set(pid, reading),
    /** Returns what a worker that has ended reported last, and forgets it. */
    lastOf(worker: SupervisedWorker): WorkerReading | undefined {
      const last = readingOf(worker)
      reported.delete(worker.child.pid)
      return last
    },
  }
}
