import { apiPath } from '../api-path.js'
import { checkTime, WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { notesText, type TierPart, tierText, untilText } from '../print/tier-origin.js'

interface Tier extends TierPart {
  readonly assigned: string | null
  readonly until: string | null
}

export const command = adminCommand({
  name: 'tier',
  usage: ['CONSUMER', 'CONSUMER TIER [--for TIME]', 'CONSUMER --remove'],
  about: `Shows the tier of a consumer, assigns another one, or removes the assignment. A change takes effect on every
gateway within a second. Usage counts on where both tiers have the same windows.`,
  whose: 'reader',
  writes: ({ remove }, [, tier]) => remove === true || tier !== undefined,
  changes: true,
  options: {
    for: { value: 'TIME', help: 'how long, such as 30m, 2h or 7d; it then ends by itself on every gateway' },
    remove: { help: 'remove the assignment: the tier of the credential holds again, or the default' },
  },
  positionals: ['CONSUMER', '[TIER]'],
  run({ remove, for: time }, [consumer = '', tier]) {
    if (remove && tier !== undefined) throw new WrongUse('TIER and --remove exclude each other')
    if (time !== undefined && tier === undefined) throw new WrongUse('--for needs a TIER')
    checkTime('--for', time)
    return async (control) => {
      const path = apiPath`/consumers/${consumer}/tier`
      const method = remove ? 'DELETE' : tier === undefined ? 'GET' : 'PUT'
      const found = await control.call<Tier>(
        method,
        path,
        tier === undefined ? undefined : { tier, for: time },
      )
      return { data: found, text: describe(consumer, found) }
    }
  },
})

function describe(consumer: string, found: Tier): string {
  const { assigned, until, tier, tier_notes } = found
  const line = `${consumer}: ${tier}, ${tierText(found)}${untilText(until)}${notesText(tier_notes)}`
  // If the configuration drops a tier, its assignments remain.
  const stale = assigned !== null && assigned !== tier
  return stale ? `${line} (${assigned} is assigned, but this configuration does not have it)` : line
}
