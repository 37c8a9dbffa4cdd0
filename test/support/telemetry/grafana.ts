import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import { ROOT } from '../pages.js'

/** Reads what `grafana/` holds, as Grafana and Prometheus read it. */

export interface ShownQuery {
  /** Dashboard, panel or annotation, and query: for messages. */
  readonly name: string
  readonly expr: string
}

export interface ShownPanel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly fieldConfig: { readonly defaults: { readonly unit?: string; readonly noValue?: string } }
  readonly targets?: readonly {
    readonly refId: string
    readonly expr: string
    readonly legendFormat: string
  }[]
  readonly links?: readonly { readonly url: string }[]
}

export interface ShownDashboard {
  readonly uid: string
  readonly title: string
  readonly description: string
  readonly panels: readonly ShownPanel[]
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] }
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] }
}

export interface AlertRule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: { readonly severity: string }
  readonly annotations: Readonly<Record<'summary' | 'description' | 'dashboard' | 'runbook_url', string>>
}

export const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

export const dashboards: readonly ShownDashboard[] = readdirSync(join(ROOT, 'grafana/dashboards'))
  .sort()
  .map((name) => JSON.parse(read(`grafana/dashboards/${name}`)))

/** Returns every query of every panel and annotation. */
export const shownQueries: readonly ShownQuery[] = dashboards.flatMap(({ title, panels, annotations }) => [
  ...panels.flatMap((panel) =>
    (panel.targets ?? []).map(({ refId, expr }) => ({ name: `${title} > ${panel.title} > ${refId}`, expr })),
  ),
  ...annotations.list.map(({ name, expr }) => ({ name: `${title} > ${name}`, expr })),
])

type Rule = AlertRule | { readonly record: string; readonly expr: string }
const groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[] = parse(
  read('grafana/alerts.yml'),
).groups
export const alertRules: readonly AlertRule[] = groups.flatMap(({ rules }) =>
  rules.filter((rule): rule is AlertRule => 'alert' in rule),
)
export const recordingRules = groups.flatMap(({ rules }) => rules.filter((rule) => 'record' in rule))

/**
 * Fills in a query's variables as Grafana would.
 *
 * @param chosen a regular expression for each variable that is not on All
 * @param times durations of PromQL
 */
export function asGrafanaAsks(
  expr: string,
  chosen: Readonly<Record<string, string>> = {},
  times = { rate: '1m', range: '1h', step: '15s' },
): string {
  return expr
    .replaceAll('$__rate_interval', times.rate)
    .replaceAll('$__range', times.range)
    .replaceAll('$__interval', times.step)
    .replace(/\$(job|instance|service|tier)\b/g, (_, name: string) => chosen[name] ?? '.*')
}
