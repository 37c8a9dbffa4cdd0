import { amountCommand } from './limit-change.js'

export const command = amountCommand({
  name: 'override',
  number: 'amount',
  what: `Puts another amount in the place of the tier's, until it is removed or its time
is over. It holds on every gateway within a second; what has been used counts
on. A consumer's own wins over its tenant's.`,
  numberHelp: '  --amount N          what the limit allows instead',
  ends: false,
})
