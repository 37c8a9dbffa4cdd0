import { formatListen, parseListen } from '../../net/addresses.js'
import { askAdmin, noAnswer } from '../client/ask-admin.js'
import { defineCommand, Refused, WrongUse } from '../command.js'
import { print } from '../print/terminal.js'

const USUAL = '127.0.0.1:8081'

export const command = defineCommand({
  name: 'health',
  help: `Usage: tidegate health [--admin HOST:PORT]

Asks /readyz of a gateway: exit code 0 while it should be given traffic, 1 while
it should not, or does not answer. For the health check of a container, which
has no curl. It needs no token, and reads no configuration: the file may be a
bad one by now, and the gateway well, with the last good one.

Options:
  -a, --admin HOST:PORT   where the admin API listens; by default ${USUAL}`,
  options: { admin: { type: 'string', short: 'a' } },
  async run({ admin = USUAL }, io) {
    const at = parseListen(admin)
    if (at === undefined) {
      throw new WrongUse(
        `tidegate health: --admin takes host:port, such as ${USUAL}, not ${admin}; see: tidegate health --help`,
      )
    }
    const { status, text } = await askAdmin({ ...at, token: undefined }, 'GET', '/readyz', undefined).catch(
      (error: Error) => {
        throw new Refused(`tidegate health: ${noAnswer(formatListen(at), error)}`)
      },
    )
    const reasons = reasonsIn(text)
    if (status !== 200) throw new Refused(`tidegate health: not ready: ${reasons ?? `status ${status}`}`)
    print(io, reasons ? `ready; ${reasons}` : 'ready')
    return 0
  },
})

/** Returns the reasons for a 503, or the problems of a 200. Undefined if no gateway answered. */
function reasonsIn(text: string): string | undefined {
  try {
    const { reasons } = JSON.parse(text) as { reasons: readonly string[] }
    return reasons.join('; ')
  } catch {
    return undefined
  }
}
