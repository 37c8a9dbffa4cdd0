import type { Static } from '@sinclair/typebox'
import { boolean, integer, object, size, switchable } from './define.js'

/** Schema of HTTP/2 to clients. */

const Http2 = object(
  {
    enabled: boolean('Accept HTTP/2', { default: true }),
    max_concurrent_streams: integer('Concurrent requests on one connection', [1, 10_000], { default: 100 }),
    max_session_memory: size(
      'Memory that one connection may use for data in transit',
      [1024 * 1024, 1024 * 1024 * 1024],
      { default: '10MiB' },
    ),
    reset_burst: integer(
      'Requests that a client may cancel at once before its connection is closed. Each may have caused work upstream',
      [1, 100_000],
      { default: 100 },
    ),
    reset_rate: integer('Further requests that it may cancel each second', [1, 100_000], { default: 33 }),
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
