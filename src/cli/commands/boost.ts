import { amountCommand } from './limit-change.js'

export const command = amountCommand({
  name: 'boost',
  number: 'by',
  about: `Raises one limit for a time, on top of what the tier or an override allows. The boost takes effect on every
gateway within a second and ends by itself. Usage counts on, before and after.`,
  numberHelp: 'how much more the limit allows',
  ends: true,
})
