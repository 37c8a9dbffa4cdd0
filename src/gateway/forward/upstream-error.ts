import type { ErrorCode } from '../../errors.js'

interface CodedError extends Error {
  readonly code?: string
}

/** Maps an error of the connection, the resolver or the socket to a code of the error table. */
export function upstreamErrorCode(error: Error): ErrorCode {
  const code = (error as CodedError).code ?? ''
  switch (code) {
    case 'ECONNREFUSED':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    // Over HTTP/2: the upstream's SETTINGS allow no streams at the moment.
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
  // From Node's parser, which reads upgrades.
  if (code.startsWith('HPE_')) return 'upstream_bad_response'
  return 'upstream_failed'
}

/** Returns whether a TLS handshake failed: an untrusted certificate, or one side requires what the other lacks. */
function isTlsError(code: string): boolean {
  return TLS_ERROR.test(code) || CERTIFICATE_ERRORS.has(code)
}

const TLS_ERROR = /^(?:ERR_TLS_|ERR_SSL_|CERT_|CRL_|UNABLE_TO_|ERROR_IN_)/
/** OpenSSL's certificate errors that share no prefix with others (Node's `doc/api/tls.md`). */
const CERTIFICATE_ERRORS: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'PATH_LENGTH_EXCEEDED',
  'HOSTNAME_MISMATCH',
  'EPROTO',
])

/** Returns whether the code says that no connection could be made. On a connection that was made, it has another meaning. */
export function isConnectError(code: ErrorCode): boolean {
  return code === 'upstream_refused' || code === 'upstream_connect_timeout'
}

/** Returns whether the upstream ignored the request each time and the sender has used all its attempts: no further retry. */
export function wasRefusedForGood(error: Error): boolean {
  return (error as CodedError).code === 'UPSTREAM_UNPROCESSED'
}

/** Returns the library's own text, for the log. It may name addresses. */
export function errorText(error: Error): string {
  const code = (error as CodedError).code
  // System errors already contain the code, at the beginning or after the name of the call.
  return code === undefined || error.message.includes(code) ? error.message : `${code}: ${error.message}`
}
