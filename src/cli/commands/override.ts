import { amountCommand } from './limit-change.js'

export const command = amountCommand({
  name: 'override',
  number: 'amount',
  about: `Replaces the amount of the tier by another one, until you remove it or its time is over. The override takes effect on
every gateway within a second. Usage counts on. A consumer's own override wins over that of its tenant.`,
  numberHelp: 'what the limit allows instead',
  ends: false,
})
