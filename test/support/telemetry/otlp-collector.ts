import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import protobuf from 'protobufjs'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'

/** The part of opentelemetry-proto that spans need, parsed by protobufjs: independent of the gateway's encoder. */
const { root } = protobuf.parse(`
syntax = "proto3";
message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; string schema_url = 3; }
message Resource { repeated KeyValue attributes = 1; uint32 dropped_attributes_count = 2; }
message ScopeSpans { InstrumentationScope scope = 1; repeated Span spans = 2; string schema_url = 3; }
message InstrumentationScope { string name = 1; string version = 2; }
message Span {
  bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4; fixed32 flags = 16;
  string name = 5; int32 kind = 6; fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8;
  repeated KeyValue attributes = 9; Status status = 15;
}
message Status { string message = 2; int32 code = 3; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue {
  oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; }
}
`)
const REQUEST = root.lookupType('ExportTraceServiceRequest')
const KINDS = ['unspecified', 'internal', 'server', 'client']

/** A span as a collector gets it. */
export interface CollectedSpan {
  readonly traceId: string
  readonly spanId: string
  /** Id of the parent span; empty if there is none. */
  readonly parentSpanId: string
  readonly traceState: string
  readonly flags: number
  readonly name: string
  readonly kind: string
  /** Unix ms. */
  readonly start: number
  readonly end: number
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  readonly failed: boolean
  readonly message: string
  readonly resource: Readonly<Record<string, string | number | boolean>>
}

export interface Collector {
  readonly origin: string
  readonly spans: CollectedSpan[]
  readonly pushes: { readonly path: string; readonly headers: IncomingHttpHeaders }[]
  /** Resolves with the spans of a request once its server span has come. */
  trace(requestId: string): Promise<CollectedSpan[]>
}

/** Starts a collector's OTLP/HTTP receiver. `answer` may refuse, delay or ignore an export; the receiver keeps it in any case. */
export async function startCollector(
  t: Test,
  answer: (response: ServerResponse) => void = (response) => response.end(),
): Promise<Collector> {
  const spans: CollectedSpan[] = []
  const pushes: { path: string; headers: IncomingHttpHeaders }[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      pushes.push({ path: request.url!, headers: request.headers })
      spans.push(...spansIn(Buffer.concat(chunks)))
      answer(response)
    })
    request.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    pushes,
    async trace(requestId) {
      const isIt = (span: CollectedSpan) => span.attributes['tidegate.request_id'] === requestId
      await eventually(`the spans of ${requestId}`, () => spans.some(isIt))
      const { traceId, spanId } = spans.find(isIt)!
      return spans.filter(
        (span) => span.traceId === traceId && (span.spanId === spanId || span.parentSpanId === spanId),
      )
    },
  }
}

interface KeyValue {
  readonly key: string
  readonly value: Record<string, string | number | boolean>
}

interface RawSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly traceState?: string
  readonly flags: number
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes?: readonly KeyValue[]
  readonly status?: { readonly message?: string; readonly code?: number }
}

function spansIn(bytes: Buffer): CollectedSpan[] {
  const decoded = REQUEST.toObject(REQUEST.decode(bytes), { longs: String, bytes: String }) as {
    resourceSpans: { resource: { attributes: KeyValue[] }; scopeSpans: { spans: RawSpan[] }[] }[]
  }
  return decoded.resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap((scope) => scope.spans.map((span) => read(span, attributesOf(resource.attributes)))),
  )
}

function read(span: RawSpan, resource: CollectedSpan['resource']): CollectedSpan {
  return {
    traceId: hex(span.traceId),
    spanId: hex(span.spanId),
    parentSpanId: hex(span.parentSpanId ?? ''),
    traceState: span.traceState ?? '',
    flags: span.flags,
    name: span.name,
    kind: KINDS[span.kind]!,
    start: Number(BigInt(span.startTimeUnixNano) / 1000n) / 1000,
    end: Number(BigInt(span.endTimeUnixNano) / 1000n) / 1000,
    attributes: attributesOf(span.attributes ?? []),
    failed: span.status?.code === 2,
    message: span.status?.message ?? '',
    resource,
  }
}

function attributesOf(pairs: readonly KeyValue[]): Record<string, string | number | boolean> {
  return Object.fromEntries(
    pairs.map(({ key, value }) => {
      const [[kind, content]] = Object.entries(value) as [[string, string | number | boolean]]
      return [key, kind === 'intValue' ? Number(content) : content]
    }),
  )
}

function hex(base64: string): string {
  return Buffer.from(base64, 'base64').toString('hex')
}
