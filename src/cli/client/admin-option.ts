import { formatListen } from '../../net/addresses.js'
import { type CommandIo, hostAndPort, WrongUse } from '../command.js'
import type { AdminAddress } from './ask-admin.js'

/** Option of every command that a gateway answers. */
export const ADMIN_OPTION = {
  value: 'HOST:PORT',
  short: 'a',
  help: `ask the gateway whose admin API is there, and read no configuration; if it wants a token, set TIDEGATE_ADMIN_TOKEN`,
} as const

/** Option of every command that changes something. */
export const REASON_OPTION = {
  value: 'TEXT',
  help: 'why you change it, for tidegate audit: a ticket, say; at most 500 characters',
} as const

/**
 * Parses the address. Throws WrongUse if `text` is not an address, or if `config` is given as well: that would name
 * another gateway.
 */
export function adminAt({ env }: CommandIo, text: string, config: string | undefined): AdminAddress {
  if (config !== undefined) throw new WrongUse('--admin and --config exclude each other')
  return { ...hostAndPort('--admin', text, '127.0.0.1:8081'), token: env.TIDEGATE_ADMIN_TOKEN || undefined }
}

export function formatAdmin({ host, port }: AdminAddress): string {
  return formatListen({ host, port })
}

/** Hint for a user whose configuration cannot be read: the gateway runs with its last valid one, and can be asked. */
export const OR_ASK_ADMIN =
  'tidegate: you can ask a running gateway without the file: --admin HOST:PORT (127.0.0.1:8081 by default)'
