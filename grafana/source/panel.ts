import type { Builder } from '@grafana/grafana-foundation-sdk/cog'
import {
  BigValueColorMode,
  BigValueGraphMode,
  GraphDrawStyle,
  GraphThresholdsStyleConfigBuilder,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common'
import {
  type Panel as Built,
  DashboardLinkBuilder,
  FieldColorBuilder,
  FieldColorModeId,
  MappingType,
  SpecialValueMatch,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type ValueMapping,
} from '@grafana/grafana-foundation-sdk/dashboard'
import {
  PanelBuilder as Heatmap,
  HeatmapColorOptionsBuilder,
  YAxisConfigBuilder,
} from '@grafana/grafana-foundation-sdk/heatmap'
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import { PanelBuilder as Stat } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as Timeline } from '@grafana/grafana-foundation-sdk/statetimeline'
import { PanelBuilder as Table } from '@grafana/grafana-foundation-sdk/table'
import { PanelBuilder as Lines } from '@grafana/grafana-foundation-sdk/timeseries'

/** Values that have a name, and perhaps a colour. */
export type Names = Readonly<Record<string, readonly [text: string, color: string]>>

export interface Panel {
  /**
   * `stat`: the current value, large. `lines`, `stacked`: values over time. `timeline`: which state held when. `heatmap`: how
   * often each bucket. `table`: current values, a row for each combination of labels.
   */
  readonly kind: 'stat' | 'lines' | 'stacked' | 'timeline' | 'heatmap' | 'table'
  readonly title: string
  /** Description: shows what to read from the panel, and what to do when it looks wrong. */
  readonly text: string
  /** Unit of Grafana: `reqps`, `s`, `percentunit` … Default: `none`. */
  readonly unit?: string
  /**
   * Queries by the name of their series, which may use labels: `{{tidegate_service}}`. In a table: by the title of the column.
   */
  readonly queries: Readonly<Record<string, string>>
  /** Columns of 24; 4 for `stat`, 8 for the rest. */
  readonly width?: number
  /** Height in rows of about 30 pixels; 4 for `stat`, 8 for the rest. */
  readonly height?: number
  /** Values from which on the panel turns orange or red. */
  readonly thresholds?: { readonly orange?: number; readonly red?: number; readonly below?: true }
  readonly min?: number
  readonly max?: number
  readonly decimals?: number
  readonly names?: Names
  /** Colours of series, by a regular expression over their names. */
  readonly colors?: Readonly<Record<string, string>>
  /** Text for a query without an answer. */
  readonly nothing?: string
  /** Dashboard to look at next. */
  readonly to?: string
}

/** Every query uses the data source that is chosen at the top. */
export const DATASOURCE = { type: 'prometheus', uid: `\${datasource}` }

/** @param id within its dashboard: links to one panel name it */
export function buildPanel(panel: Panel, id: number): Builder<Built> {
  const builder = kinds[panel.kind](panel)
    .id(id)
    .title(panel.title)
    .description(panel.text)
    .datasource(DATASOURCE)
    .unit(unitOf(panel))
    .span(panel.width ?? (panel.kind === 'stat' ? 4 : 8))
    .height(panel.height ?? (panel.kind === 'stat' ? 4 : 8))
    .thresholds(thresholdsOf(panel))
    .mappings(mappingsOf(panel))
    .noValue(panel.nothing ?? 'nothing yet')
  if (panel.min !== undefined) builder.min(panel.min)
  if (panel.max !== undefined) builder.max(panel.max)
  if (panel.decimals !== undefined) builder.decimals(panel.decimals)
  if (panel.to !== undefined) builder.links([linkTo(panel.to)])
  for (const [regexp, fixedColor] of Object.entries(panel.colors ?? {}))
    builder.overrideByRegexp(regexp, [{ id: 'color', value: { mode: 'fixed', fixedColor } }])
  return builder
}

const unitOf = ({ unit = 'none' }: Panel) => unit

const BY_THRESHOLD = () => new FieldColorBuilder().mode(FieldColorModeId.Thresholds)

const kinds = {
  stat: (panel: Panel) =>
    new Stat()
      .targets(targets(panel).map((one) => one.range()))
      .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']))
      .colorScheme(BY_THRESHOLD())
      .colorMode(BigValueColorMode.Value)
      .graphMode(panel.names === undefined ? BigValueGraphMode.Area : BigValueGraphMode.None),
  lines,
  stacked: (panel: Panel) =>
    lines(panel).fillOpacity(60).stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A')),
  timeline: (panel: Panel) =>
    new Timeline()
      .targets(targets(panel).map((one) => one.range()))
      .colorScheme(BY_THRESHOLD())
      .mergeValues(true)
      .rowHeight(0.8)
      .fillOpacity(80)
      .legend(new VizLegendOptionsBuilder().showLegend(false)),
  heatmap: (panel: Panel) =>
    new Heatmap()
      .targets(targets(panel).map((one) => one.format(PromQueryFormat.Heatmap).range()))
      .calculate(false)
      .yAxis(new YAxisConfigBuilder().unit(unitOf(panel)))
      .color(new HeatmapColorOptionsBuilder().scheme('Oranges').steps(32)),
  table: (panel: Panel) =>
    new Table()
      .targets(targets(panel).map((one) => one.format(PromQueryFormat.Table).instant()))
      .withTransformation({ id: 'merge', options: {} })
      .withTransformation({
        id: 'organize',
        options: {
          excludeByName: { Time: true, __name__: true, alertstate: true },
          renameByName: Object.fromEntries([
            ...Object.keys(panel.queries).map((title, i, all) => [
              all.length === 1 ? 'Value' : `Value #${refId(i)}`,
              title,
            ]),
            ...['service', 'tier'].map((label) => [`tidegate_${label}`, label]),
          ]),
        },
      }),
}

function lines(panel: Panel) {
  const { orange, red } = panel.thresholds ?? {}
  const marked = orange !== undefined || red !== undefined
  return new Lines()
    .targets(targets(panel).map((one) => one.range()))
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic))
    .drawStyle(GraphDrawStyle.Line)
    .lineWidth(1)
    .fillOpacity(8)
    .showPoints(VisibilityMode.Never)
    .axisSoftMin(0)
    .thresholdsStyle(
      new GraphThresholdsStyleConfigBuilder().mode(
        marked ? GraphThresholdsStyleMode.Dashed : GraphThresholdsStyleMode.Off,
      ),
    )
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.Table)
        .placement(LegendPlacement.Bottom)
        .showLegend(true)
        .calcs(['mean', 'max', 'lastNotNull']),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending))
}

const refId = (i: number) => String.fromCharCode(65 + i)

function targets({ queries }: Panel): DataqueryBuilder[] {
  return Object.entries(queries).map(([legend, expr], i) =>
    new DataqueryBuilder().datasource(DATASOURCE).refId(refId(i)).expr(expr).legendFormat(legend),
  )
}

function thresholdsOf({ thresholds = {} }: Panel): ThresholdsConfigBuilder {
  const { orange, red, below } = thresholds
  const marks = [
    ...(orange === undefined ? [] : [{ value: orange, color: 'orange' }]),
    ...(red === undefined ? [] : [{ value: red, color: 'red' }]),
  ]
  // A step says from which value on it holds: if low values are bad, the worst comes first.
  const steps = below
    ? [
        { value: null, color: 'red' },
        ...(orange === undefined ? [] : [{ value: red ?? 0, color: 'orange' }]),
        { value: orange ?? red ?? 0, color: 'green' },
      ]
    : [{ value: null, color: 'green' }, ...marks]
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps)
}

function mappingsOf({ names, nothing }: Panel): ValueMapping[] {
  const result = { text: nothing ?? '–', index: 100 }
  const noNumber: ValueMapping = {
    type: MappingType.SpecialValue,
    options: { match: SpecialValueMatch.NullAndNan, result },
  }
  if (names === undefined) return [noNumber]
  const options = Object.fromEntries(
    Object.entries(names).map(([value, [text, color]], index) => [value, { text, color, index }]),
  )
  return [{ type: MappingType.ValueToText, options }, noNumber]
}

function linkTo(uid: string): DashboardLinkBuilder {
  return new DashboardLinkBuilder(`To ${uid.replace('tidegate-', '')}`).url(
    `/d/${uid}?\${__url_time_range}&\${__all_variables}`,
  )
}
