import type { View } from './cells.js'
import type { Exemplar } from './exemplars.js'
import { atMostScale, type Exponential, ZERO_THRESHOLD } from './exponential.js'
import { createProtobufWriter, type ProtobufWriter } from './protobuf.js'
import type { ProcessReading } from './reading.js'

const SERIES_AT_ONCE = 1000
/** The finest that Prometheus has. */
const FINEST_SCHEMA = 8
/** More empty buckets than this begin a new span. */
const MOST_EMPTY = 2

const TYPES = { counter: 0, gauge: 1, histogram: 4 } as const
/** Fields of `Metric` by kind. */
const FIELDS = { counter: 3, gauge: 2, histogram: 7 } as const

/**
 * Metrics as a stream of `io.prometheus.client.MetricFamily` (client_model, metrics.proto): the one form of exposition
 * that has native histograms. Each has its classic buckets as well, for a scraper that wants those.
 */
export async function encodeExposition(
  views: readonly View[],
  processes: readonly ProcessReading[],
): Promise<Buffer> {
  const families: Uint8Array[] = []
  let series = 0
  for (const view of views) {
    if (view.size === 0) continue
    const { definition, size } = view
    const metrics = createProtobufWriter()
    for (let i = 0; i < size; i++) {
      metrics.message(4, () => writeMetric(metrics, view, i))
      if (++series % SERIES_AT_ONCE === 0) await new Promise(setImmediate)
    }
    families.push(family(definition.prometheus, definition.help, definition.kind, metrics.finish()))
  }
  for (const { name, help, type, values } of processes) {
    const kind = type as keyof typeof TYPES
    const metrics = createProtobufWriter()
    if (kind === 'histogram') writeHistograms(metrics, name, values)
    else {
      for (const { labels, value } of values) {
        metrics.message(4, () => {
          writeLabels(metrics, Object.entries(labels))
          metrics.message(FIELDS[kind], () => metrics.double(1, value))
        })
      }
    }
    families.push(family(name, help, kind, metrics.finish()))
  }
  return Buffer.concat(families)
}

function family(name: string, help: string, kind: keyof typeof TYPES, metrics: Uint8Array): Uint8Array {
  const writer = createProtobufWriter()
  writer.delimited(() => {
    writer.string(1, name)
    writer.string(2, help)
    writer.varint(3, TYPES[kind])
    writer.raw(metrics)
  })
  return writer.finish()
}

function writeLabels(writer: ProtobufWriter, labels: Iterable<readonly [string, string | number]>): void {
  for (const [name, value] of labels) {
    writer.message(1, () => {
      writer.string(1, name.replace(/\W/g, '_'))
      writer.string(2, String(value))
    })
  }
}

function writeMetric(writer: ProtobufWriter, view: View, series: number): void {
  const { definition, width, figures, labels, exponential, exemplar } = view
  const names = definition.labels
  writeLabels(
    writer,
    names.map((name, i) => [name, labels[series * names.length + i]!]),
  )
  const at = series * width
  const { boundsMs } = definition
  writer.message(FIELDS[definition.kind], () => {
    if (boundsMs === undefined) {
      writer.double(1, figures[at]!)
      return
    }
    const counts = figures.subarray(at, at + width - 1)
    writer.varint(
      1,
      counts.reduce((sum, count) => sum + count, 0),
    )
    writer.double(2, figures[at + width - 1]! / 1000)
    let count = 0
    for (let i = 0; i < counts.length; i++) {
      count += counts[i]!
      const bound = i < boundsMs.length ? boundsMs[i]! / 1000 : Number.POSITIVE_INFINITY
      writeBucket(writer, count, bound, exemplar(at + i))
    }
    if (exponential !== undefined) writeNative(writer, atMostScale(exponential(series), FINEST_SCHEMA))
  })
}

function writeBucket(writer: ProtobufWriter, count: number, bound: number, exemplar?: Exemplar): void {
  writer.message(3, () => {
    writer.varint(1, count)
    writer.double(2, bound)
    if (exemplar === undefined) return
    writer.message(3, () => {
      writeLabels(writer, [
        ['trace_id', exemplar.traceId],
        ['span_id', exemplar.spanId],
      ])
      writer.double(2, exemplar.ms / 1000)
      writer.message(3, () => {
        writer.varint(1, Math.floor(exemplar.at / 1000))
        writer.varint(2, (exemplar.at % 1000) * 1e6)
      })
    })
  })
}

/** Spans of buckets that are not empty, and each count as the difference to the one before. */
function writeNative(writer: ProtobufWriter, { scale, zeros, offset, counts }: Exponential): void {
  writer.zigzag(5, scale)
  writer.double(6, ZERO_THRESHOLD)
  writer.varint(7, zeros)
  const spans: { offset: number; length: number }[] = []
  const deltas: number[] = []
  let before = 0
  let empty = 0
  counts.forEach((count, i) => {
    if (count === 0) {
      empty++
      return
    }
    const span = spans.at(-1)
    if (span === undefined) {
      // Bucket 0 of Prometheus is the one up to 1, that of OpenTelemetry the one from 1.
      spans.push({ offset: offset + i + 1, length: 1 })
    } else if (empty > MOST_EMPTY) spans.push({ offset: empty, length: 1 })
    else {
      for (; empty > 0; empty--) {
        deltas.push(-before)
        before = 0
        span.length++
      }
      span.length++
    }
    empty = 0
    deltas.push(count - before)
    before = count
  })
  // Nothing but zeros: a span of no length tells it from a classic histogram.
  for (const span of spans.length === 0 ? [{ offset: 0, length: 0 }] : spans) {
    writer.message(12, () => {
      writer.zigzag(1, span.offset)
      writer.varint(2, span.length)
    })
  }
  if (deltas.length > 0) writer.packedZigzag(13, deltas)
}

/** prom-client tells a histogram as its samples. */
function writeHistograms(writer: ProtobufWriter, name: string, values: ProcessReading['values']): void {
  const histograms = new Map<
    string,
    { labels: [string, string | number][]; sum: number; count: number; buckets: [number, number][] }
  >()
  for (const { metricName, labels, value } of values) {
    const { le, ...rest } = labels
    const key = JSON.stringify(rest)
    const one = histograms.get(key) ?? { labels: Object.entries(rest), sum: 0, count: 0, buckets: [] }
    histograms.set(key, one)
    if (le !== undefined) one.buckets.push([le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le), value])
    else if (metricName === `${name}_sum`) one.sum = value
    else one.count = value
  }
  for (const { labels, sum, count, buckets } of histograms.values()) {
    writer.message(4, () => {
      writeLabels(writer, labels)
      writer.message(FIELDS.histogram, () => {
        writer.varint(1, count)
        writer.double(2, sum)
        for (const [bound, cumulative] of buckets) writeBucket(writer, cumulative, bound)
      })
    })
  }
}
