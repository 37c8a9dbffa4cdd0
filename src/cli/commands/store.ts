import type { ShownStore } from '../../admin/routes/store.js'
import { WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { listing } from '../print/terminal.js'
import { tableTime } from '../print/time.js'

/** Longest wait in ms. A million values take a long time, and a hundred million are a thousand times as many as most have. */
const PATIENCE = 3_600_000
/** Commands that operators give about the store. */
const ACTIONS = ['accept', 'restore', 'split', 'join'] as const

export const command = adminCommand({
  name: 'store',
  usage: ['[accept | restore | split | join]'],
  about: `Shows whether the store has forgotten tiers, API keys, bans, boosts or overrides. If it has, the gateways serve
what they knew until you decide:

  restore   write back what the gateways know, and keep later changes
  accept    believe the store; the gateways forget the rest

Both take effect on every gateway within a second. Without store.redis there is nothing to decide.

  split     keep tiers, API keys, boosts and overrides in 64 slots of a
            Redis Cluster, for more than a million tiers
  join      keep them in one slot again, for an older version

The gateways serve meanwhile. Changes are refused for some seconds per
million records. If it is interrupted, run it again.`,
  notes: 'Exit code 1: something is forgotten and undecided, or there was nothing to decide.',
  whose: 'store',
  changes: true,
  options: {},
  positionals: ['[ACTION]'],
  run: (_, [action]) => {
    if (action !== undefined && !ACTIONS.some((one) => one === action))
      throw new WrongUse(`ACTION is accept, restore, split or join, not ${JSON.stringify(action)}`)
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

function describe(
  { records, shards, moving = false, copied }: ShownStore,
  columns: number | undefined,
): string {
  if (records.length === 0) return 'The gateway has no Redis, so nothing can be forgotten.'
  const rows = records.map(({ records: what, held, whole, state, since }) => [
    what,
    String(held),
    (whole ? STATES : PARTLY)[state],
    since === null ? '' : tableTime(since),
  ])
  const table = listing(['records', 'held', 'state', 'since'], rows, columns)
  const lines = [table]
  if (copied !== undefined) lines.push(describeMove(shards, copied))
  else if (moving) lines.push('A split or join is under way, or was interrupted: then run it again.')
  else if (shards !== undefined && shards > 1)
    lines.push(`Tiers, API keys, boosts and overrides are in ${shards} shards.`)
  return lines.join('\n')
}

function describeMove(shards: number | undefined, copied: Readonly<Record<string, number>>): string {
  const where = shards === 1 ? 'one shard' : `${shards} shards`
  const what = Object.entries(copied).map(([records, count]) => `${count} ${records}`)
  return what.length === 0
    ? `The store has ${where}; nothing had to be copied.`
    : `Copied ${what.join(', ')} into ${where}.`
}
