import type { Static } from '@sinclair/typebox'
import { boolean, integer, object, scalar, switchable } from './define.js'

/** Schema of HTTP/2 to clients. */

const Http2 = object(
  {
    enabled: boolean('Accept HTTP/2', { default: true }),
    max_concurrent_streams: integer('Concurrent requests on one connection', {
      default: 100,
      minimum: 1,
      maximum: 10_000,
    }),
    max_session_memory: scalar('size', 'Memory that one connection may use for data in transit', {
      default: '10MiB',
      least: 1024 * 1024,
      most: 1024 * 1024 * 1024,
    }),
    reset_burst: integer(
      'Requests that a client may cancel at once before its connection is closed. Each may have caused work upstream',
      { default: 100, minimum: 1, maximum: 100_000 },
    ),
    reset_rate: integer('Further requests that it may cancel each second', {
      default: 33,
      minimum: 1,
      maximum: 100_000,
    }),
  },
  'HTTP/2 with its limits',
)
export type Http2Settings = Static<typeof Http2>

/** Keys of `server`. */
export const http2Keys = {
  http2: switchable(
    'Accept HTTP/2',
    Http2,
    'true, false, or a mapping with limits: accept HTTP/2 beside HTTP/1.1 on the same port. With TLS, ALPN decides; in plain text, the client begins with the HTTP/2 preface',
    { default: false },
  ),
}
