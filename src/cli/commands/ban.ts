import type { BanList, ShownBan } from '../../admin/routes/bans.js'
import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { checkTime, defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { columnsOf, complain, listing, print, printable, printJson } from '../print/terminal.js'

export const command = defineCommand({
  name: 'ban',
  help: `Usage: tidegate ban BLOCK [--for TIME] [--reason TEXT]
                    [--admin HOST:PORT | --config FILE] [--json]
       tidegate ban --list

Turns an address, or a block of them, away at the edge: 403 before anything else
is done. It holds on every gateway within a second. tidegate unban BLOCK lifts
it.

Options:
  --for TIME          how long, such as 30m, 1h or 7d; left out: until it is
                      lifted
  --list              show who is banned, the latest first; auto: by a gateway,
                      for what came from there
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

With store.redis in the configuration the store is asked; without, the running
gateway, at admin.listen.`,
  options: {
    for: { type: 'string' },
    list: { type: 'boolean' },
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    reason: REASON_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['BLOCK'],
  required: 0,
  async run({ admin, config, for: time, json, list, reason }, io, [block]) {
    if ((block === undefined) !== (list === true)) {
      throw new WrongUse(
        'tidegate ban: name a BLOCK such as 203.0.113.0/24, or --list; see: tidegate ban --help',
      )
    }
    checkTime('ban', '--for', time)
    return withControl(io, 'ban', { config, admin, reason }, async (control) => {
      if (block === undefined) {
        const answer = await control.call<BanList>('GET', '/bans')
        if (json) printJson(io, answer)
        else print(io, listOf(answer, columnsOf(io.stdout)))
        return 0
      }
      const body = { ...(time !== undefined && { for: time }), ...(reason !== undefined && { reason }) }
      const ban = await control.call<ShownBan>('PUT', `/bans/${encodeURIComponent(block)}`, body)
      if (json) printJson(io, ban)
      else print(io, printable(`${ban.block} is banned ${endOf(ban)}`))
      if (ban.let_in !== undefined)
        complain(io, `tidegate ban: it is let in all the same, by ${ban.let_in} of the configuration`)
      return 0
    })
  },
})

function listOf({ bans, total }: BanList, columns: number | undefined): string {
  if (total === 0) return 'nobody is banned'
  const rows = bans.map((ban) => [
    ban.block,
    ban.source,
    `${ban.since.slice(0, 19)}Z`,
    ban.until === null ? 'when it is lifted' : `${ban.until.slice(0, 19)}Z`,
    ban.reason ?? '',
  ])
  const more = total > bans.length ? `\nand ${total - bans.length} more` : ''
  return listing(['block', 'by', 'since', 'ends', 'reason'], rows, columns) + more
}

function endOf({ until }: ShownBan): string {
  return until === null ? 'until it is lifted' : `until ${until.slice(0, 19)}Z`
}
