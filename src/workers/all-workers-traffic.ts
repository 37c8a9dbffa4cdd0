import type { ProcessTraffic } from '../admin/traffic-question.js'
import { mergeTraffic, requestsIn, type Traffic } from '../telemetry/metrics/overview.js'

/**
 * Adds up the traffic of all workers. It never goes down: a worker that is too busy to answer counts with its last
 * answer, and one that has ended with its last report.
 *
 * @param read asks the workers
 */
export function createAllTraffic(read: () => Promise<readonly ProcessTraffic[]>) {
  const live = new Map<number, Traffic>()
  let ended = mergeTraffic([])

  return {
    async traffic(): Promise<Traffic> {
      for (const { process, traffic } of await read()) live.set(process, traffic)
      return mergeTraffic([ended, ...live.values()])
    },
    /** Records the end of a worker. `last`: its counts as far as it has reported them otherwise. */
    ended(process: number, last: Traffic | undefined): void {
      const known = [live.get(process), last].filter((one) => one !== undefined)
      live.delete(process)
      const [latest] = known.sort((a, b) => requestsIn(b) - requestsIn(a))
      if (latest !== undefined) ended = mergeTraffic([ended, { ...latest, connections: 0, degraded: false }])
    },
  }
}
