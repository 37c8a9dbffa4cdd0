import { duration, integer } from './define.js'

/** Schema of what one client, and one of its connections, may take of the gateway. Keys of `server`. */
export const protection = {
  slow_read: duration(
    "How long a client may read nothing of a response that the gateway makes itself. For an upstream's response, timeouts.idle of the route counts",
    [100, 86_400_000],
    { default: '30s' },
  ),
  min_rate: integer(
    'Slowest rate of a client, in bytes a second, while a connection to an upstream over HTTP/1.1 waits for it. A slower sender of a body gets 408; a slower reader of a response loses its connection. A request takes a connection only once its whole body or 64 KiB of it are here. 0: no limit, and the gateway forwards a body as it arrives, however slowly',
    [0, 1_000_000_000],
    { default: 240 },
  ),
  min_rate_grace: duration('Period over which min_rate is measured, again and again', [10, 3_600_000], {
    default: '5s',
  }),
  max_pipelined: integer(
    'Requests of one connection in progress at once. Further ones wait unread, but for up to 256 that came in one packet. After those, the gateway closes the connection',
    [1, 1_000],
    { default: 32 },
  ),
  max_requests_per_connection: integer(
    'Requests after which an HTTP/1.1 connection is closed, so that long-lived clients spread anew. 0: never',
    [0, 1_000_000_000],
    { default: 0 },
  ),
}
