import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { oneLine, print, printJson } from '../print/terminal.js'
import { foundBy, notesText, untilText } from '../print/tier-origin.js'

interface Tier {
  readonly assigned: string | null
  readonly until: string | null
  readonly tier: string
  readonly tier_from: string
  readonly tier_stale?: boolean
  readonly tier_notes?: readonly string[]
}

export const command = defineCommand({
  name: 'tier',
  help: `Usage: tidegate tier CONSUMER [TIER [--for TIME] | --remove] [--reason TEXT]
                     [--admin HOST:PORT | --config FILE] [--json]

Shows the tier of a consumer, puts the consumer on another, or takes that back.
A change holds on every gateway within a second; what has been used counts on
where both tiers have the same windows.

Options:
  --for TIME          such as 30m, 2h or 7d, after which it ends by itself, on
                      every gateway
  --remove            remove what was assigned: the tier of the credential, or
                      the default, holds again
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

With store.redis in the configuration the store is asked; without, the running
gateway, at admin.listen.`,
  options: {
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    remove: { type: 'boolean' },
    for: { type: 'string' },
    reason: REASON_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['CONSUMER', 'TIER'],
  required: 1,
  async run({ admin, config, reason, remove, for: period, json }, io, [consumer = '', tier]) {
    if (remove && tier !== undefined) {
      throw new WrongUse('tidegate tier: --remove takes no TIER; give one or the other')
    }
    if (period !== undefined && tier === undefined) {
      throw new WrongUse('tidegate tier: --for goes with a TIER; give one')
    }
    return withControl(io, 'tier', { config, admin, reason }, async (control) => {
      const path = `/consumers/${encodeURIComponent(consumer)}/tier`
      const found = remove
        ? await control.call<Tier>('DELETE', path)
        : tier === undefined
          ? await control.call<Tier>('GET', path)
          : await control.call<Tier>('PUT', path, period === undefined ? { tier } : { tier, for: period })
      if (json) printJson(io, found)
      else print(io, oneLine(describe(consumer, found)))
      return 0
    })
  },
})

function describe(
  consumer: string,
  { assigned, until, tier, tier_from, tier_stale, tier_notes }: Tier,
): string {
  const line = `${consumer}: ${tier}, ${foundBy(tier_from, tier_stale)}${untilText(until)}${notesText(tier_notes)}`
  // An assignment outlives the tier that it names, when the configuration drops it.
  const stale = assigned !== null && assigned !== tier
  return stale ? `${line} (assigned is ${assigned}, which this configuration does not have)` : line
}
