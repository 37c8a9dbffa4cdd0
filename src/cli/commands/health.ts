import { formatListen } from '../../net/addresses.js'
import { askAdmin, noAnswer } from '../client/ask-admin.js'
import { hostAndPort, JSON_OPTION, Refused } from '../command.js'
import { defineCommand } from '../define-command.js'
import { print, printJson } from '../print/terminal.js'

const USUAL = '127.0.0.1:8081'

export const command = defineCommand({
  name: 'health',
  usage: ['[--admin HOST:PORT] [--json]'],
  about: `Asks /readyz of a gateway. Exit code 0: send it traffic. Exit code 1: do not, or it does not answer. Use it as the health
check of a container, which has no curl. It needs no token and reads no configuration: the file may be bad by now while the
gateway runs well with the last good one.`,
  options: {
    admin: { value: 'HOST:PORT', short: 'a', help: `where the admin API listens; by default ${USUAL}` },
    json: JSON_OPTION,
  },
  async run({ admin = USUAL, json }, _, io) {
    const at = hostAndPort('--admin', admin, USUAL)
    const { status, text } = await askAdmin({ ...at, token: undefined }, 'GET', '/readyz', undefined).catch(
      (error: Error) => {
        throw new Refused(noAnswer(formatListen(at), error))
      },
    )
    const answer = readinessIn(text)
    if (json && answer !== undefined) {
      printJson(io, answer)
      return status === 200 ? 0 : 1
    }
    const reasons = answer?.reasons.join('; ')
    if (status !== 200) throw new Refused(`not ready: ${reasons ?? `status ${status}`}`)
    print(io, reasons ? `ready; ${reasons}` : 'ready')
    return 0
  },
})

/** Parses the body of `/readyz`. Returns undefined if no gateway answered. */
function readinessIn(text: string): { readonly reasons: readonly string[] } | undefined {
  try {
    const answer = JSON.parse(text) as { readonly reasons?: unknown }
    return Array.isArray(answer.reasons) ? { ...answer, reasons: answer.reasons } : undefined
  } catch {
    return undefined
  }
}
