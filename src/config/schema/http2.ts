import type { Static } from '@sinclair/typebox'
import { boolean, either, integer, object, scalar } from './define.js'

/** Schema of HTTP/2 to clients. */

const Http2 = object(
  {
    enabled: boolean('Whether HTTP/2 is spoken', { default: true }),
    max_concurrent_streams: integer('Requests at the same time on one connection', {
      default: 100,
      minimum: 1,
      maximum: 10_000,
    }),
    max_session_memory: scalar('size', 'Memory that one connection may take for what is on its way', {
      default: '10MiB',
      least: 1024 * 1024,
      most: 1024 * 1024 * 1024,
    }),
    reset_burst: integer(
      'Requests that a client may give up at once before its connection is closed; each of them could cost the upstream work',
      { default: 100, minimum: 1, maximum: 100_000 },
    ),
    reset_rate: integer('How many more it may give up each second', {
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
  http2: either<Http2Settings>(
    [scalar('switch', 'Whether HTTP/2 is spoken', { shorthand: true }), Http2],
    'true, false, or a mapping with limits: HTTP/2 beside HTTP/1.1 on the same port, over TLS by ALPN, in plain text when the client begins with its preface',
    { default: false },
  ),
}
