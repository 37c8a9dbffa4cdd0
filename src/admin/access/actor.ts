import type { IncomingMessage } from 'node:http'
import { plainAddress } from '../../net/address-key.js'
import type { Problem } from './problem.js'
import type { Role } from './roles.js'

/** The client of a request to the admin API. */
export interface Actor {
  /**
   * Name of the token; `loopback` when no token is required; `cli:<user>@<host>` for a command that writes to the
   * store.
   */
  readonly who: string
  readonly role: Role
  readonly address: string
  /** User-Agent of the client, unverified. */
  readonly client: string | undefined
  /** Reason that the client gave in the header x-reason. */
  readonly reason: string | undefined
}

const LONGEST_REASON = 500
const LONGEST_CLIENT = 200

export function actorOf(
  { who, role }: Pick<Actor, 'who' | 'role'>,
  { headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>,
): Actor {
  return {
    who,
    role,
    address: plainAddress(socket.remoteAddress ?? 'unknown'),
    client: headers['user-agent'] && printable(headers['user-agent']).slice(0, LONGEST_CLIENT),
    reason: reasonIn(headers['x-reason']),
  }
}

/** Returns the fault in the reason that a request gives, if any. */
export function reasonProblem(header: string | readonly string[] | undefined): Problem | undefined {
  const reason = reasonIn(header)
  if (reason === undefined || reason.length <= LONGEST_REASON) return undefined
  return { code: 'bad_request', detail: `x-reason has at most ${LONGEST_REASON} characters.` }
}

function reasonIn(header: string | readonly string[] | undefined): string | undefined {
  if (typeof header !== 'string') return undefined
  // Node reads a header as Latin-1; curl and our own commands send UTF-8.
  const bytes = Buffer.from(header, 'latin1')
  const text = bytes.toString('utf8')
  const reason = printable(text.includes('\ufffd') ? header : text).trim()
  return reason === '' ? undefined : reason
}

/** Removes what a terminal acts on: C0 and C1 control characters, and those that change the direction of text. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, ' ')
}
