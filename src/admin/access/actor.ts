import type { IncomingMessage } from 'node:http'
import type { Problem } from './problem.js'

/** Who asks something of the admin API, and from where. */
export interface Actor {
  /** The token's name; `loopback` where none is asked for; `cli:<user>@<host>` of a command that goes to the store. */
  readonly who: string
  readonly address: string
  /** What it says it is, unproven: its User-Agent. */
  readonly client: string | undefined
  /** Why, in its own words: the header x-reason. */
  readonly reason: string | undefined
}

const LONGEST_REASON = 500
const LONGEST_CLIENT = 200

export function actorOf(
  who: string,
  { headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>,
): Actor {
  return {
    who,
    address: (socket.remoteAddress ?? 'unknown').replace(/^::ffff:/, ''),
    client: headers['user-agent'] && printable(headers['user-agent']).slice(0, LONGEST_CLIENT),
    reason: reasonIn(headers['x-reason']),
  }
}

/** What is wrong with the reason that a request gives, if anything. */
export function reasonProblem(header: string | readonly string[] | undefined): Problem | undefined {
  const reason = reasonIn(header)
  if (reason === undefined || reason.length <= LONGEST_REASON) return undefined
  return { code: 'bad_request', detail: `x-reason has at most ${LONGEST_REASON} characters.` }
}

function reasonIn(header: string | readonly string[] | undefined): string | undefined {
  if (typeof header !== 'string') return undefined
  // Node reads a field as Latin-1; curl and our own commands send UTF-8.
  const bytes = Buffer.from(header, 'latin1')
  const text = bytes.toString('utf8')
  const reason = printable(text.includes('\ufffd') ? header : text).trim()
  return reason === '' ? undefined : reason
}

/** Nothing that a terminal acts on: C0 and C1 control characters, and those that turn the direction of a text. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, ' ')
}
