import { formatListen, parseListen } from '../../net/addresses.js'
import { type CommandIo, WrongUse } from '../command.js'
import type { AdminAddress } from './ask-admin.js'

/** Option of every command that a gateway answers. */
export const ADMIN_OPTION = { type: 'string', short: 'a' } as const

export const ADMIN_HELP = `  -a, --admin HOST:PORT
                      ask the gateway whose admin API is there, and read no
                      configuration; its token, if it wants one, is taken from
                      TIDEGATE_ADMIN_TOKEN`

/** Option of every command that changes something. */
export const REASON_OPTION = { type: 'string' } as const

export const REASON_HELP = `  --reason TEXT       why it is changed, for tidegate audit: a ticket, say; 500
                      characters at most`

/**
 * Parses the address. Throws WrongUse if `text` is not an address, or if `config` is given as well: that would name
 * another gateway.
 */
export function adminAt(
  { env }: CommandIo,
  command: string,
  text: string,
  config: string | undefined,
): AdminAddress {
  const wrong = (what: string) =>
    new WrongUse(`tidegate ${command}: ${what}; see: tidegate ${command} --help`)
  if (config !== undefined) throw wrong('--admin and --config exclude each other')
  const at = parseListen(text)
  if (at === undefined) throw wrong(`--admin takes host:port, such as 127.0.0.1:8081, not ${text}`)
  return { ...at, token: env.TIDEGATE_ADMIN_TOKEN || undefined }
}

export function formatAdmin({ host, port }: AdminAddress): string {
  return formatListen({ host, port })
}

/** Hint for a user whose configuration cannot be read: the gateway runs with its last valid one, and can be asked. */
export function orAskAdmin(command: string): string {
  return `tidegate ${command}: a gateway that runs can be asked without the file: --admin HOST:PORT (127.0.0.1:8081, where it has no other)`
}
