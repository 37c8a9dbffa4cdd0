import { ERRORS, type ErrorCode, type Refusal } from '../../errors.js'
import type { Exchange } from './exchange.js'
import { sentField } from './header-list.js'

/** Returns true if the client speaks gRPC. Refusals then use its format. */
export function isGrpc({ headers }: Exchange): boolean {
  return /^application\/grpc(?:$|[+; ])/i.test(sentField(headers.forward, 'content-type') ?? '')
}

/** Returns the header of a refusal without body (Trailers-Only), with status and reason in gRPC's format. */
export function grpcRefusal(refusal: Refusal, requestId: string): string[] {
  const { code, detail, headers } = refusal
  const text = detail ?? ERRORS[code].detail
  return [
    'content-type',
    'application/grpc',
    'grpc-status',
    String(grpcStatus(code)),
    'grpc-message',
    percentEncoded(text),
    'x-request-id',
    requestId,
    ...(headers ?? []),
  ]
}

/**
 * Maps an error to a status (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), as Envoy maps statuses of HTTP.
 */
export function grpcStatus(code: ErrorCode): number {
  switch (code) {
    case 'upstream_timeout':
    case 'upstream_connect_timeout':
      return DEADLINE_EXCEEDED
    case 'payload_too_large':
      return RESOURCE_EXHAUSTED
    case 'client_closed':
      return CANCELLED
  }
  switch (ERRORS[code].status as number) {
    case 401:
      return UNAUTHENTICATED
    case 403:
      return PERMISSION_DENIED
    case 404:
    case 405:
    case 501:
      return UNIMPLEMENTED
    case 408:
      return DEADLINE_EXCEEDED
    case 429:
      return RESOURCE_EXHAUSTED
    case 502:
    case 503:
    case 504:
      return UNAVAILABLE
  }
  return INTERNAL
}

const CANCELLED = 1
const DEADLINE_EXCEEDED = 4
const PERMISSION_DENIED = 7
const RESOURCE_EXHAUSTED = 8
const UNIMPLEMENTED = 12
const INTERNAL = 13
const UNAVAILABLE = 14
const UNAUTHENTICATED = 16

/** Percent-encodes everything except printable ASCII, and the percent sign, as gRPC's HTTP/2 mapping requires. */
function percentEncoded(text: string): string {
  return Array.from(Buffer.from(text, 'utf8'), (byte) =>
    byte >= 0x20 && byte <= 0x7e && byte !== 0x25
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
  ).join('')
}
