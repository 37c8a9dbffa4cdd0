import { integer, scalar } from './define.js'

/** Schema of what one client, and one of its connections, may take of the gateway. Keys of `server`. */
export const protection = {
  slow_read: scalar(
    'duration',
    "How long a client may take nothing of an answer of the gateway's own; that of an upstream has the route's timeouts.idle",
    { default: '30s', least: 100, most: 86_400_000 },
  ),
  min_rate: integer(
    'Bytes a second that a client has to send of a body that holds a connection to an upstream over HTTP/1.1, while more of it is awaited; one that is slower gets 408; and that it has to take of a response for which such a connection waits, or it is cut. Until 64 KiB of a body are here, or all of it, it holds none. 0: a body is sent on as it comes, however slowly',
    { default: 240, minimum: 0, maximum: 1_000_000_000 },
  ),
  min_rate_grace: scalar('duration', 'Over which time min_rate is measured, again and again', {
    default: '5s',
    least: 10,
    most: 3_600_000,
  }),
  max_pipelined: integer(
    'Requests of one connection that may be under way at once; what a client sends beyond them waits unread, but for up to 256 that came in one packet; past those it is the last',
    { default: 32, minimum: 1, maximum: 1_000 },
  ),
  max_requests_per_connection: integer(
    'After how many requests a connection of HTTP/1.1 is closed, so that long-lived ones are spread anew; 0: never',
    { default: 0, minimum: 0, maximum: 1_000_000_000 },
  ),
}
