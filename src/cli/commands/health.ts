import { formatListen } from '../../net/addresses.js'
import { askAdmin, noAnswer } from '../client/ask-admin.js'
import { hostAndPort, Refused } from '../command.js'
import { defineCommand } from '../define-command.js'
import { print } from '../print/terminal.js'

const USUAL = '127.0.0.1:8081'

export const command = defineCommand({
  name: 'health',
  usage: ['[--admin HOST:PORT]'],
  about: `Asks /readyz of a gateway. Exit code 0: send it traffic. Exit code 1: do not, or it does not answer. Use it as the health
check of a container, which has no curl. It needs no token and reads no configuration: the file may be bad by now while the
gateway runs well with the last good one.`,
  options: {
    admin: { value: 'HOST:PORT', short: 'a', help: `where the admin API listens; by default ${USUAL}` },
  },
  async run({ admin = USUAL }, _, io) {
    const at = hostAndPort('--admin', admin, USUAL)
    const { status, text } = await askAdmin({ ...at, token: undefined }, 'GET', '/readyz', undefined).catch(
      (error: Error) => {
        throw new Refused(noAnswer(formatListen(at), error))
      },
    )
    const reasons = reasonsIn(text)
    if (status !== 200) throw new Refused(`not ready: ${reasons ?? `status ${status}`}`)
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
