import type { LabelValue, View } from './cells.js'
import type { Exemplar } from './exemplars.js'
import { ZERO_THRESHOLD } from './exponential.js'
import { createProtobufWriter, type ProtobufWriter } from './protobuf.js'

export interface OtlpRequest {
  readonly views: readonly View[]
  /** Attributes of the resource. */
  readonly resource: Readonly<Record<string, string>>
  readonly temporality: 'cumulative' | 'delta'
  /** Whether histograms that are recorded as exponential ones are sent as such. */
  readonly exponential: boolean
  /** Unix ms: since when the counters count, and when they were read. */
  readonly from: number
  readonly to: number
}

/** Points between two looks at the event loop: some 2 ms. */
const POINTS_AT_ONCE = 1000

const TEMPORALITY = { delta: 1, cumulative: 2 } as const

/**
 * Metrics as an `ExportMetricsServiceRequest` of OTLP 1 (opentelemetry-proto, metrics/v1). OpenTelemetry's own serializer
 * writes the same bytes (a test holds them together) but no exemplars, from objects made for each point, and without
 * ever letting go of the event loop.
 */
export async function encodeMetrics(request: OtlpRequest): Promise<Uint8Array> {
  const metrics = createProtobufWriter()
  let written = 0
  for (const view of request.views) {
    if (view.size === 0) continue
    const points = createProtobufWriter()
    const write = pointWriter(points, view, request)
    for (let series = 0; series < view.size; series++) {
      points.message(1, () => write(series))
      if (++written % POINTS_AT_ONCE === 0) await new Promise(setImmediate)
    }
    metrics.message(2, () => writeMetric(metrics, view, request, points.finish()))
  }
  const whole = createProtobufWriter()
  whole.message(1, () => {
    whole.message(1, () => {
      for (const [key, value] of Object.entries(request.resource)) writeAttribute(whole, 1, key, value)
    })
    whole.message(2, () => {
      whole.message(1, () => whole.string(1, 'tidegate'))
      whole.raw(metrics.finish())
    })
  })
  return whole.finish()
}

function writeMetric(
  writer: ProtobufWriter,
  { definition, exponential }: View,
  request: OtlpRequest,
  points: Uint8Array,
): void {
  writer.string(1, definition.otlp)
  writer.string(2, definition.help)
  if (definition.unit !== '') writer.string(3, definition.unit)
  if (definition.kind === 'gauge') {
    writer.message(5, () => writer.raw(points))
    return
  }
  const isExponential = request.exponential && exponential !== undefined
  writer.message(definition.kind === 'counter' ? 7 : isExponential ? 10 : 9, () => {
    writer.raw(points)
    writer.varint(2, TEMPORALITY[request.temporality])
    // monotonic
    if (definition.kind === 'counter') writer.varint(3, 1)
  })
}

/** Writes the point of a series: as `NumberDataPoint`, `HistogramDataPoint` or `ExponentialHistogramDataPoint`. */
function pointWriter(writer: ProtobufWriter, view: View, request: OtlpRequest): (series: number) => void {
  const { definition, width, figures, labels, exponential, exemplar } = view
  const { from, to } = request
  const names = definition.labels
  const attributes = (field: number, series: number) => {
    names.forEach((name, i) => {
      const value = labels[series * names.length + i]!
      // To Prometheus an empty label is none.
      if (value !== '') writeAttribute(writer, field, name, value)
    })
  }
  const times = () => {
    writer.nanoseconds(2, from)
    writer.nanoseconds(3, to)
  }
  const { boundsMs } = definition
  if (boundsMs === undefined) {
    return (series) => {
      times()
      writer.double(4, figures[series]!)
      attributes(7, series)
    }
  }
  const buckets = boundsMs.length + 1
  const countAndSum = (at: number) => {
    let count = 0
    for (let i = 0; i < buckets; i++) count += figures[at + i]!
    writer.fixed64(4, count)
    writer.double(5, figures[at + buckets]! / 1000)
  }
  const exemplars = (field: number, at: number) => {
    for (let i = 0; i < buckets; i++) {
      const found = exemplar(at + i)
      if (found !== undefined) writer.message(field, () => writeExemplar(writer, found))
    }
  }
  if (request.exponential && exponential !== undefined) {
    return (series) => {
      const { scale, zeros, offset, counts } = exponential(series)
      attributes(1, series)
      times()
      countAndSum(series * width)
      writer.zigzag(6, scale)
      writer.fixed64(7, zeros)
      writer.message(8, () => {
        writer.zigzag(1, offset)
        writer.packedVarint(2, counts)
      })
      exemplars(11, series * width)
      writer.double(14, ZERO_THRESHOLD)
    }
  }
  const bounds = Array.from(boundsMs, (ms) => ms / 1000)
  return (series) => {
    const at = series * width
    times()
    countAndSum(at)
    writer.packedFixed64(6, figures.subarray(at, at + buckets))
    writer.packedDouble(7, bounds)
    exemplars(8, at)
    attributes(9, series)
  }
}

function writeExemplar(writer: ProtobufWriter, { traceId, spanId, ms, at }: Exemplar): void {
  writer.nanoseconds(2, at)
  writer.double(3, ms / 1000)
  writer.bytes(4, Buffer.from(spanId, 'hex'))
  writer.bytes(5, Buffer.from(traceId, 'hex'))
}

function writeAttribute(writer: ProtobufWriter, field: number, key: string, value: LabelValue): void {
  writer.message(field, () => {
    writer.string(1, key)
    writer.message(2, () => {
      if (typeof value === 'number') writer.varint(3, value)
      else writer.string(1, value)
    })
  })
}
