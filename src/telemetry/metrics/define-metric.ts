import type { Definition, LabelValue } from './metric-family.js'
import type { MetricReadings } from './metric-sources.js'

/** Makes the definitions of metrics. Each says its name in OTLP, its name in Prometheus, and the rest by key. */

type Rest = Partial<Definition> & Pick<Definition, 'help'>

const NOTHING_MORE = { unit: '', labels: [] }

export function counter(otlp: string, prometheus: string, rest: Rest): Definition {
  return { otlp, prometheus, kind: 'counter', ...NOTHING_MORE, ...rest }
}

export function gauge(otlp: string, prometheus: string, rest: Rest): Definition {
  return { otlp, prometheus, kind: 'gauge', ...NOTHING_MORE, ...rest }
}

/** Defines a histogram of durations. */
export function histogram(otlp: string, prometheus: string, rest: Rest): Definition {
  return { otlp, prometheus, kind: 'histogram', ...NOTHING_MORE, unit: 's', ...rest }
}

type SetValue = (value: number, ...labels: readonly LabelValue[]) => void

/** Returns a reader of one source of a process. It does nothing in a process that does not have the source. */
export function from<K extends keyof MetricReadings>(
  source: K,
  show: (reading: MetricReadings[K], set: SetValue) => void,
): NonNullable<Definition['read']> {
  return (readingOf, set) => {
    const reading = readingOf(source)
    if (reading !== undefined) show(reading, set)
  }
}

/** Returns a reader of a source that is a list: it shows one item after the other. */
export function fromEach<K extends keyof MetricReadings>(
  source: K,
  show: (item: ItemOf<MetricReadings[K]>, set: SetValue) => void,
): NonNullable<Definition['read']> {
  return from(source, (list, set) => {
    for (const item of list as Iterable<ItemOf<typeof list>>) show(item, set)
  })
}

type ItemOf<T> = T extends readonly (infer One)[] ? One : never

/** Sets a value for each key. The key is the last label. */
export function setAll(
  set: SetValue,
  values: Readonly<Record<string, number>>,
  ...labels: readonly LabelValue[]
): void {
  for (const [key, value] of Object.entries(values)) set(value, ...labels, key)
}

export const SERVICE = 'tidegate.service'
export const TIER = 'tidegate.tier'
