import {
  AnnotationQueryBuilder,
  type Dashboard as Built,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { buildPanel, DATASOURCE, type Panel } from './panel.js'
import { ofNode } from './query.js'

export interface Row {
  readonly title: string
  readonly panels: readonly Panel[]
}

export interface Dashboard {
  /** Id that links use; it never changes. */
  readonly uid: string
  readonly title: string
  readonly text: string
  /** Variables at the top besides the gateways. */
  readonly choose: readonly ('service' | 'tier')[]
  readonly rows: readonly Row[]
}

const TAG = 'tidegate'

/** Events that explain a change in the lines; every panel shows them. */
const EVENTS = [
  {
    name: 'Store degraded',
    color: 'red',
    expr: `max by (instance) (${ofNode('tidegate_store_state', 'state="degraded"')}) == 1`,
    title: 'decides without the store',
    valueIsTime: false,
  },
  {
    name: 'Configuration applied',
    color: 'blue',
    // Grafana takes ms.
    expr: `1000 * ${ofNode('tidegate_config_loaded_timestamp_seconds')}`,
    title: 'configuration applied',
    valueIsTime: true,
  },
]

/** Builds the dashboard in Grafana's schema. */
export function buildDashboard(dashboard: Dashboard): Built {
  const builder = new DashboardBuilder(dashboard.title)
    .uid(dashboard.uid)
    .description(dashboard.text)
    .tags([TAG])
    .editable()
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: 'now-1h', to: 'now' })
    .refresh('30s')
    .link(
      new DashboardLinkBuilder('Tidegate')
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .includeVars(true)
        .keepTime(true),
    )
    .withVariable(
      new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus').regex(''),
    )
    .withVariable(variable('job', 'Job', 'tidegate_config_info'))
    .withVariable(variable('instance', 'Gateway', 'tidegate_config_info{job=~"$job"}'))
  for (const name of dashboard.choose) {
    const label = name === 'service' ? 'Service' : 'Tier'
    const metric = ofNode('http_server_request_duration_seconds_count', `tidegate_${name}!=""`)
    builder.withVariable(variable(name, label, metric, `tidegate_${name}`))
  }
  for (const { name, color, expr, title, valueIsTime } of EVENTS) {
    builder.annotation(
      new AnnotationQueryBuilder()
        .name(name)
        .datasource(DATASOURCE)
        .enable(true)
        .iconColor(color)
        .expr(expr)
        .titleFormat(title)
        .useValueForTime(valueIsTime)
        .textFormat('{{instance}}'),
    )
  }
  let id = 0
  for (const { title, panels } of dashboard.rows) {
    builder.withRow(new RowBuilder(title).id(++id))
    for (const panel of panels) builder.withPanel(buildPanel(panel, ++id))
  }
  return inSight(builder.build())
}

/** The SDK puts links and annotations into a menu by default, and has no option against it. */
function inSight(built: Built): Built {
  const ofPanels = (built.panels ?? []).flatMap((panel) => ('links' in panel ? (panel.links ?? []) : []))
  for (const shown of [...(built.links ?? []), ...(built.annotations?.list ?? []), ...ofPanels])
    delete shown.placement
  return built
}

/**
 * A variable of one, several or all values of a label. `.*` stands for all, so that a service without a request yet is not left
 * out.
 */
function variable(name: string, label: string, metric: string, of = name): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query({ query: `label_values(${metric}, ${of})`, refId: name })
    .definition(`label_values(${metric}, ${of})`)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.*')
    .current({ selected: true, text: ['All'], value: ['$__all'] })
}
