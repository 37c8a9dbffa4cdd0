import type { ShownStore } from '../../admin/routes/store.js'
import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { columnsOf, listing, print, printJson } from '../print/terminal.js'

/** Longest wait in ms. A million values take a long time. */
const PATIENCE = 600_000

export const command = defineCommand({
  name: 'store',
  help: `Usage: tidegate store [accept | restore] [--reason TEXT]
                      [--admin HOST:PORT | --config FILE] [--json]

Says whether the store has forgotten tiers, API keys, bans, boosts or overrides
that it had. The gateways serve what they knew then, until you decide:

  restore   writes back what the gateways know; what operators have changed
            meanwhile stays changed
  accept    what the store has holds; the gateways forget the rest

Either holds on every gateway within a second. Without store.redis there is
nothing to decide.

Options:
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

Exit code 1: something is forgotten and not decided, or there was nothing to
decide.`,
  options: {
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    reason: REASON_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['ACTION'],
  async run({ admin, config, json, reason }, io, [action]) {
    if (action !== undefined && action !== 'accept' && action !== 'restore') {
      throw new WrongUse(`tidegate store: unknown action ${action}; it is accept or restore`)
    }
    return withControl(io, 'store', { config, admin, reason }, async (control) => {
      const told =
        action === undefined
          ? await control.call<ShownStore>('GET', '/store')
          : await control.call<ShownStore>('POST', `/store/${action}`, undefined, PATIENCE)
      if (json) printJson(io, told)
      else print(io, describe(told, columnsOf(io.stdout)))
      return told.records.every(({ state }) => state === 'kept') ? 0 : 1
    })
  },
})

const STATES = {
  kept: 'kept',
  forgotten: 'forgotten; the gateways serve what they knew',
  lost: 'forgotten; no gateway knows what there was',
}

function describe({ records }: ShownStore, columns: number | undefined): string {
  if (records.length === 0) return 'The gateway has no Redis that could forget anything.'
  const rows = records.map(({ records: what, held, state, since }) => [
    what,
    String(held),
    STATES[state],
    since === null ? '' : since.replace('T', ' ').replace(/\.\d+Z$/, 'Z'),
  ])
  return listing(['records', 'held', 'state', 'since'], rows, columns)
}
