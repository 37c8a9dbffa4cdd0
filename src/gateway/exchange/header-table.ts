import { headersOfCdn } from '../../config/snapshot/cdn.js'
import { SIGNATURE_HEADERS, type Snapshot } from '../../config/snapshot/snapshot.js'

/** Treatment of a request header. A header that is not in the table goes to the upstream unchanged. */
export enum Field {
  /** Dropped: hop-by-hop (RFC 9110 §7.6.1), or naming another path or method than the limited one. */
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
  /** Goes to the upstream as it is, like those that are not in the table. */
  Plain,
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
  // The client's certificate, as a proxy that ends TLS passes it on (RFC 9440 §2.4).
  ['client-cert', Field.Provenance],
  ['client-cert-chain', Field.Provenance],
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

/**
 * Fields by which other servers tell a backend who is calling: those of Azure, of this gateway, of CGI (where `Proxy` becomes
 * HTTP_PROXY, too).
 */
const CLAIMS = ['proxy', 'remote-user', 'x-arr-clientcert', 'x-tidegate-identity']

/**
 * Whether a field begins like one by which other servers tell a backend who is calling: of nginx and its Ingress, AWS, Kong and
 * the like. Unlike those in the table it is dropped without any look-up.
 *
 * @param name in lower case, with `-` for whatever is no letter or digit
 */
export function isClaim(name: string): boolean {
  switch (name.charCodeAt(0)) {
    case 0x73:
      return name.startsWith('ssl-client-')
    case 0x78:
      return isVendorClaim(name)
    default:
      return false
  }
}

function isVendorClaim(name: string): boolean {
  switch (name.charCodeAt(2)) {
    case 0x61:
      return name.startsWith('x-amzn-mtls-')
    case 0x63:
      return name.startsWith('x-client-') || name.startsWith('x-consumer-')
    case 0x6f:
      return name.startsWith('x-original-')
    case 0x73:
      return name.startsWith('x-ssl-')
    default:
      return false
  }
}

/** Lower-case names of the fields that say what a request costs, or which upstream it goes to. They identify nobody. */
function readHere({ routes, services }: Snapshot): string[] {
  const costs = routes.flatMap(({ costFrom }) => (costFrom === undefined ? [] : [costFrom.header]))
  const hashes = services.flatMap(({ balance }) => (balance.kind === 'hash_header' ? [balance.header] : []))
  return [...costs, ...hashes]
}

const tables = new WeakMap<Snapshot, ReadonlyMap<string, Field>>()

/** By lower-case name. Made once a snapshot. */
export function fieldTable(snapshot: Snapshot): ReadonlyMap<string, Field> {
  let table = tables.get(snapshot)
  if (table === undefined) {
    table = new Map([
      ...readHere(snapshot).map((name) => [name, Field.Plain] as const),
      ...CLAIMS.map((name) => [name, Field.Drop] as const),
      ...snapshot.config.trusted_headers.map((name) => [name, Field.Provenance] as const),
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
