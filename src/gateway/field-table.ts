import { headersOfCdn } from '../config/cdn.js'
import { SIGNATURE_HEADERS, type Snapshot } from '../config/snapshot.js'

/** What becomes of a field of a request. One that is not in the table goes to the upstream as it is. */
export enum Field {
  /** Hop-by-hop (RFC 9110 §7.6.1), or a way to tell a backend another path or method than the one that was limited. */
  Drop,
  Host,
  Connection,
  ContentLength,
  TransferEncoding,
  Expect,
  Upgrade,
  Via,
  RequestId,
  ForwardedFor,
  ForwardedProto,
  ForwardedHost,
  /** Says where the request came from: kept only from a trusted proxy. */
  Provenance,
  /** Upstreams believe it, since only the gateway writes it. */
  Told,
  Identity,
  /** The same, but for several signatures there may be several fields. */
  Signature,
  TraceParent,
  TraceState,
  UserAgent,
  /** Says what a CDN knows of the client: kept, and believed, only from a trusted proxy. */
  Cdn,
}

const FIELDS: readonly (readonly [string, Field])[] = [
  ['host', Field.Host],
  ['connection', Field.Connection],
  ['content-length', Field.ContentLength],
  ['transfer-encoding', Field.TransferEncoding],
  ['expect', Field.Expect],
  ['upgrade', Field.Upgrade],
  ['via', Field.Via],
  ['x-request-id', Field.RequestId],
  ['x-forwarded-for', Field.ForwardedFor],
  ['x-forwarded-proto', Field.ForwardedProto],
  ['x-forwarded-host', Field.ForwardedHost],
  ['forwarded', Field.Provenance],
  ['x-real-ip', Field.Provenance],
  // Who ends TLS says of a client's certificate (RFC 9440 §2.4; what nginx's users call it).
  ['client-cert', Field.Provenance],
  ['client-cert-chain', Field.Provenance],
  ['x-client-cert', Field.Provenance],
  ['x-ssl-client-cert', Field.Provenance],
  ['x-ssl-client-verify', Field.Provenance],
  ['x-ssl-client-s-dn', Field.Provenance],
  ['traceparent', Field.TraceParent],
  ['tracestate', Field.TraceState],
  ['user-agent', Field.UserAgent],
  ['keep-alive', Field.Drop],
  ['proxy-connection', Field.Drop],
  ['proxy-authorization', Field.Drop],
  ['proxy-authenticate', Field.Drop],
  ['te', Field.Drop],
  ['trailer', Field.Drop],
  ['http2-settings', Field.Drop],
  ['x-tidegate-mirror', Field.Drop],
  ['x-original-url', Field.Drop],
  ['x-rewrite-url', Field.Drop],
  ['x-http-method-override', Field.Drop],
  ['x-http-method', Field.Drop],
  ['x-method-override', Field.Drop],
]

const tables = new WeakMap<Snapshot, ReadonlyMap<string, Field>>()

/** By lower-case name. Made once a snapshot. */
export function fieldTable(snapshot: Snapshot): ReadonlyMap<string, Field> {
  let table = tables.get(snapshot)
  if (table === undefined) {
    table = new Map([
      ...FIELDS,
      ...headersOfCdn(snapshot.edge.cdn).map((name) => [name, Field.Cdn] as const),
      ...[...snapshot.toldHeaders].map((name) => [name, Field.Told] as const),
      ...[...snapshot.identityHeaders].map((name) => [name, Field.Identity] as const),
      ...SIGNATURE_HEADERS.filter((name) => snapshot.identityHeaders.has(name)).map(
        (name) => [name, Field.Signature] as const,
      ),
    ])
    tables.set(snapshot, table)
  }
  return table
}
