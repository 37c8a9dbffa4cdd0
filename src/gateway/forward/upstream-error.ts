import type { ErrorCode } from '../../errors.js'

interface CodedError extends Error {
  readonly code?: string
}

/** What the connection, the resolver or the socket said, as a code of the error table. */
export function upstreamErrorCode(error: Error): ErrorCode {
  const code = (error as CodedError).code ?? ''
  switch (code) {
    case 'ECONNREFUSED':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    // Over HTTP/2, for as long as its SETTINGS say so.
    case 'UPSTREAM_NO_STREAMS':
      return 'upstream_refused'
    // This side has run out of sockets or of ports.
    case 'EMFILE':
    case 'ENFILE':
    case 'EADDRNOTAVAIL':
      return 'overloaded'
    case 'UPSTREAM_CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
      return 'upstream_connect_timeout'
    case 'UPSTREAM_MALFORMED':
      return 'upstream_bad_response'
    case 'UPSTREAM_UNSENDABLE':
      return 'internal'
  }
  if (isTlsError(code)) return 'upstream_tls_failed'
  // Node's parser, which upgrades come through.
  if (code.startsWith('HPE_')) return 'upstream_bad_response'
  return 'upstream_failed'
}

/** A handshake that failed: a certificate that is not trusted, or one side that asks for what the other has not. */
function isTlsError(code: string): boolean {
  return TLS_ERROR.test(code) || CERTIFICATE_ERRORS.has(code)
}

const TLS_ERROR = /^(?:ERR_TLS_|ERR_SSL_|CERT_|CRL_|UNABLE_TO_|ERROR_IN_)/
/** Of OpenSSL's verdicts on a certificate those that begin with nothing in common (Node's `doc/api/tls.md`). */
const CERTIFICATE_ERRORS: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'PATH_LENGTH_EXCEEDED',
  'HOSTNAME_MISMATCH',
  'EPROTO',
])

/** Whether the code says that a connection could not be made. Of one that was made, it says something else. */
export function isConnectError(code: ErrorCode): boolean {
  return code === 'upstream_refused' || code === 'upstream_connect_timeout'
}

/** Whether the sender has sent it as often as it may, and each time the upstream did not look at it: once more is once too many. */
export function wasRefusedForGood(error: Error): boolean {
  return (error as CodedError).code === 'UPSTREAM_UNPROCESSED'
}

/** For the log: the library's words, which may name addresses. */
export function errorText(error: Error): string {
  const code = (error as CodedError).code
  // Those of the system begin with the code, or with the call that it came from.
  return code === undefined || error.message.includes(code) ? error.message : `${code}: ${error.message}`
}
