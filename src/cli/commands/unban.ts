import type { ShownBan } from '../../admin/routes/bans.js'
import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { defineCommand } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { print, printJson } from '../print/terminal.js'

interface Lifted {
  readonly block: string
  readonly lifted: readonly ShownBan[]
  readonly still: readonly ShownBan[]
}

export const command = defineCommand({
  name: 'unban',
  help: `Usage: tidegate unban BLOCK [--reason TEXT] [--admin HOST:PORT | --config FILE]
                      [--json]

Lifts the ban of an address or a block, whoever made it, on every gateway within
a second. Of an address of IPv6 that of its /64, too, which is what gateways
ban.

Options:
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

Exit code 1: a wider ban holds it all the same; it is named.`,
  options: {
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    reason: REASON_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['BLOCK'],
  required: 1,
  async run({ admin, config, json, reason }, io, [block = '']) {
    return withControl(io, 'unban', { config, admin, reason }, async (control) => {
      const found = await control.call<Lifted>('DELETE', `/bans/${encodeURIComponent(block)}`)
      if (json) printJson(io, found)
      else print(io, describe(found))
      return found.still.length === 0 ? 0 : 1
    })
  },
})

function describe({ block, lifted, still }: Lifted): string {
  const [wider] = still
  if (wider !== undefined) return `${block} is still banned, by ${wider.block}; lift that one, too`
  return lifted.length === 0 ? `${block} was not banned` : `${block} is not banned any more`
}
