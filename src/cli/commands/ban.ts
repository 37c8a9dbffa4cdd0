import type { BanList, ShownBan } from '../../admin/routes/bans.js'
import { apiPath } from '../api-path.js'
import { checkTime, WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { listing } from '../print/terminal.js'
import { toSecond } from '../print/time.js'

export const command = adminCommand({
  name: 'ban',
  usage: ['BLOCK [--for TIME]', '--list'],
  about: `Bans an address or a block of addresses: the gateways answer 403 at the edge and do nothing else. The ban takes
effect on every gateway within a second. Lift it with tidegate unban.`,
  whose: 'store',
  changes: true,
  options: {
    for: { value: 'TIME', help: 'how long, such as 30m, 1h or 7d; by default until you lift it' },
    list: { help: 'show the bans, the latest first; auto in the column by: a gateway made this ban' },
  },
  positionals: ['[BLOCK]'],
  run({ for: time, list, reason }, [block]) {
    if ((block === undefined) !== (list === true))
      throw new WrongUse('name a BLOCK, such as 203.0.113.0/24, or give --list')
    checkTime('--for', time)
    return async (control) => {
      if (block === undefined) {
        const answer = await control.call<BanList>('GET', '/bans')
        return { data: answer, text: (columns) => listOf(answer, columns) }
      }
      const ban = await control.call<ShownBan>('PUT', apiPath`/bans/${block}`, { for: time, reason })
      const end = ban.until === null ? 'until it is lifted' : `until ${toSecond(ban.until)}`
      const warning =
        ban.let_in === undefined ? undefined : `${ban.let_in} of the configuration still lets it in`
      return { data: ban, text: `${ban.block} is banned ${end}`, warning }
    }
  },
})

function listOf({ bans, total }: BanList, columns: number | undefined): string {
  if (total === 0) return 'No address is banned.'
  const rows = bans.map((ban) => [
    ban.block,
    ban.source,
    toSecond(ban.since),
    ban.until === null ? 'when it is lifted' : toSecond(ban.until),
    ban.reason ?? '',
  ])
  const more = total > bans.length ? `\nand ${total - bans.length} more` : ''
  return listing(['block', 'by', 'since', 'ends', 'reason'], rows, columns) + more
}
