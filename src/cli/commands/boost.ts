import { amountCommand } from './limit-change.js'

export const command = amountCommand({
  name: 'boost',
  number: 'by',
  what: `Raises one limit for a time, on top of what the tier or an override allows. It
holds on every gateway within a second and ends by itself; what has been used
counts on, before and after.`,
  numberHelp: '  --by N              how much more',
  ends: true,
})
