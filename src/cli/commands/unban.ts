import type { ShownBan } from '../../admin/routes/bans.js'
import { apiPath } from '../api-path.js'
import { adminCommand } from '../define-command.js'

interface Lifted {
  readonly block: string
  readonly lifted: readonly ShownBan[]
  readonly still: readonly ShownBan[]
}

export const command = adminCommand({
  name: 'unban',
  usage: ['BLOCK'],
  about: `Lifts the ban of an address or a block, whoever made it, on every gateway within a second. For an IPv6 address
it also lifts the ban of its /64, which is what gateways ban.`,
  notes: 'Exit code 1: a wider ban still holds. The output names it.',
  whose: 'store',
  changes: true,
  options: {},
  positionals: ['BLOCK'],
  run: (_, [block = '']) => {
    return async (control) => {
      const found = await control.call<Lifted>('DELETE', apiPath`/bans/${block}`)
      return { data: found, text: describe(found), code: found.still.length === 0 ? 0 : 1 }
    }
  },
})

function describe({ block, lifted, still }: Lifted): string {
  const [wider] = still
  if (wider !== undefined) return `${block} is still banned by ${wider.block}; lift that ban, too`
  return lifted.length === 0 ? `${block} was not banned` : `${block} is no longer banned`
}
