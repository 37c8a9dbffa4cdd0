import type { ShownStore } from '../../admin/routes/store.js'
import { WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { listing } from '../print/terminal.js'
import { tableTime } from '../print/time.js'

/** Longest wait in ms. A million values take a long time. */
const PATIENCE = 600_000

export const command = adminCommand({
  name: 'store',
  usage: ['[accept | restore]'],
  about: `Shows whether the store has forgotten tiers, API keys, bans, boosts or overrides. If it has, the gateways serve
what they knew until you decide:

  restore   write back what the gateways know, and keep later changes
  accept    believe the store; the gateways forget the rest

Both take effect on every gateway within a second. Without store.redis there is nothing to decide.`,
  notes: 'Exit code 1: something is forgotten and undecided, or there was nothing to decide.',
  whose: 'store',
  changes: true,
  options: {},
  positionals: ['[ACTION]'],
  run: (_, [action]) => {
    if (action !== undefined && action !== 'accept' && action !== 'restore')
      throw new WrongUse(`ACTION is accept or restore, not ${JSON.stringify(action)}`)
    return async (control) => {
      const told =
        action === undefined
          ? await control.call<ShownStore>('GET', '/store')
          : await control.call<ShownStore>('POST', `/store/${action}`, undefined, PATIENCE)
      return {
        data: told,
        text: (columns) => describe(told, columns),
        code: told.records.every(({ state }) => state === 'kept') ? 0 : 1,
      }
    }
  },
})

const STATES = {
  kept: 'kept',
  forgotten: 'forgotten; the gateways serve what they knew',
  lost: 'forgotten; no gateway knows what there was',
}
const PARTLY = {
  ...STATES,
  kept: 'kept; the gateways hold those seen lately',
  forgotten: 'forgotten; the gateways serve those that they hold, and the others as the store has them',
}

function describe({ records }: ShownStore, columns: number | undefined): string {
  if (records.length === 0) return 'The gateway has no Redis, so nothing can be forgotten.'
  const rows = records.map(({ records: what, held, whole, state, since }) => [
    what,
    String(held),
    (whole ? STATES : PARTLY)[state],
    since === null ? '' : tableTime(since),
  ])
  return listing(['records', 'held', 'state', 'since'], rows, columns)
}
