import { headersOfCdn } from '../../config/snapshot/cdn.js'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { SIGNATURE_HEADERS } from '../../config/values/credential-kinds.js'

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
  /** Describes the origin of the request: only kept from a trusted proxy. */
  Provenance,
  /** Trusted by upstreams, because only the gateway writes it. */
  Told,
  Identity,
  /** Like Identity, but several are allowed, for several signatures. */
  Signature,
  TraceParent,
  TraceState,
  UserAgent,
  /** Describes the client by a CDN: only kept, and trusted, from a trusted proxy. */
  Cdn,
  /** Goes to the upstream unchanged, like a header that is not in the table. */
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
  // The client's certificate, as a TLS-terminating proxy sends it (RFC 9440 §2.4).
  ['client-cert', Field.Provenance],
  ['client-cert-chain', Field.Provenance],
  ['traceparent', Field.TraceParent],
  ['tracestate', Field.TraceState],
  ['user-agent', Field.UserAgent],
  // Written by the gateway alone.
  ['x-tidegate-mirror', Field.Drop],
]

/** Headers of the hop (RFC 9110 §7.6.1). */
const OF_HOP = 'keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer http2-settings'
/** Headers that name another path or method than the limited one. */
const OF_TARGET = 'x-original-url x-rewrite-url x-http-method-override x-http-method x-method-override'

/**
 * Headers by which other servers name the client to a backend: of Azure, of this gateway, of CGI (where `Proxy` also
 * becomes HTTP_PROXY).
 */
const CLAIMS = ['proxy', 'remote-user', 'x-arr-clientcert', 'x-tidegate-identity']

/**
 * Returns true if a header's name begins like one that other servers use to name the client to a backend: nginx and its
 * Ingress, AWS, Kong and the like. Unlike headers in the table, it is dropped without a lookup.
 *
 * @param name in lower case, with `-` for any character that is not a letter or digit
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

/**
 * Returns the lower-case names of the headers with a request's cost or its upstream, or that an auth service gets. They
 * do not identify a consumer.
 */
function readHere({ routes, services, sentHeaders }: Snapshot): string[] {
  const costs = routes.flatMap(({ costFrom }) => (costFrom === undefined ? [] : [costFrom.header]))
  const hashes = services.flatMap(({ balance }) => (balance.kind === 'hash_header' ? [balance.header] : []))
  // A claim stays what it is: it is dropped, and the service does not get it.
  return [...costs, ...hashes, ...[...sentHeaders].filter((name) => !isClaim(name))]
}

const tables = new WeakMap<Snapshot, ReadonlyMap<string, Field>>()

/** Returns the table by lower-case name. Built once per snapshot. */
export function fieldTable(snapshot: Snapshot): ReadonlyMap<string, Field> {
  let table = tables.get(snapshot)
  if (table === undefined) {
    table = new Map([
      ...readHere(snapshot).map((name) => [name, Field.Plain] as const),
      ...CLAIMS.map((name) => [name, Field.Drop] as const),
      ...snapshot.config.trusted_headers.map((name) => [name, Field.Provenance] as const),
      ...FIELDS,
      ...`${OF_HOP} ${OF_TARGET}`.split(' ').map((name) => [name, Field.Drop] as const),
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
