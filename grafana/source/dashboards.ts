import { buildDashboard, type Dashboard } from './dashboard.js'
import { DEGRADED_BOARD } from './degraded.js'
import { LIMITS } from './limits.js'
import { OVERVIEW } from './overview.js'
import { PROCESS_BOARD } from './process.js'
import { UPSTREAMS } from './upstreams.js'

export const DASHBOARDS: readonly Dashboard[] = [OVERVIEW, LIMITS, DEGRADED_BOARD, UPSTREAMS, PROCESS_BOARD]

/** File names in `grafana/dashboards`, with their dashboards. */
export function dashboardFiles(): ReadonlyMap<string, string> {
  return new Map(
    DASHBOARDS.map((dashboard) => [
      `${dashboard.uid.replace(/^tidegate-/, '')}.json`,
      `${JSON.stringify(buildDashboard(dashboard), null, 2)}\n`,
    ]),
  )
}
