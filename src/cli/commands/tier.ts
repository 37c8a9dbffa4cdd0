import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { checkTime, defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { columnsOf, oneLine, print, printJson, wrapped } from '../print/terminal.js'
import { notesText, type TierPart, tierText, untilText } from '../print/tier-origin.js'

interface Tier extends TierPart {
  readonly assigned: string | null
  readonly until: string | null
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

The running gateway is asked, at admin.listen: it says what the next request
would get. Where none answers, or the token is missing, the store is asked
(store.redis). A change goes to the store.`,
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
    checkTime('tier', '--for', period)
    const whose = remove || tier !== undefined ? 'store' : 'reader'
    return withControl(io, 'tier', { config, admin, reason, whose }, async (control) => {
      const path = `/consumers/${encodeURIComponent(consumer)}/tier`
      const found = remove
        ? await control.call<Tier>('DELETE', path)
        : tier === undefined
          ? await control.call<Tier>('GET', path)
          : await control.call<Tier>('PUT', path, period === undefined ? { tier } : { tier, for: period })
      if (json) printJson(io, found)
      else print(io, wrapped(oneLine(describe(consumer, found)), 0, columnsOf(io.stdout)))
      return 0
    })
  },
})

function describe(consumer: string, found: Tier): string {
  const { assigned, until, tier, tier_notes } = found
  const line = `${consumer}: ${tier}, ${tierText(found)}${untilText(until)}${notesText(tier_notes)}`
  // If the configuration drops a tier, its assignments remain.
  const stale = assigned !== null && assigned !== tier
  return stale ? `${line} (assigned is ${assigned}, which this configuration does not have)` : line
}
