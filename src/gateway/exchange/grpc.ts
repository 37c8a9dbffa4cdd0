import { ERRORS, type ErrorCode, type Refusal } from '../../errors.js'
import type { Exchange } from './exchange.js'
import { percentEncoded, sentField } from './header-list.js'

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
    // As gRPC's HTTP/2 mapping requires.
    percentEncoded(text, 0x20),
    'x-request-id',
    requestId,
    ...(headers ?? []),
  ]
}

/**
 * Maps an error to a status (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), as Envoy maps statuses of HTTP.
 */
export function grpcStatus(code: ErrorCode): number {
  return BY_CODE[code] ?? BY_STATUS[ERRORS[code].status] ?? INTERNAL
}

const CANCELLED = 1
const DEADLINE_EXCEEDED = 4
const PERMISSION_DENIED = 7
const RESOURCE_EXHAUSTED = 8
const UNIMPLEMENTED = 12
const INTERNAL = 13
const UNAVAILABLE = 14
const UNAUTHENTICATED = 16

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  upstream_timeout: DEADLINE_EXCEEDED,
  upstream_connect_timeout: DEADLINE_EXCEEDED,
  payload_too_large: RESOURCE_EXHAUSTED,
  client_closed: CANCELLED,
}
const BY_STATUS: Record<number, number> = {
  401: UNAUTHENTICATED,
  403: PERMISSION_DENIED,
  404: UNIMPLEMENTED,
  405: UNIMPLEMENTED,
  408: DEADLINE_EXCEEDED,
  429: RESOURCE_EXHAUSTED,
  501: UNIMPLEMENTED,
  502: UNAVAILABLE,
  503: UNAVAILABLE,
  504: UNAVAILABLE,
}
