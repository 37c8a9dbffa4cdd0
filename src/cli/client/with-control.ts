import type { CommandIo } from '../command.js'
import type { Control, ControlOptions } from './admin-client.js'

/**
 * Opens the admin API, runs `use`, and always closes the API again. Resolves with the result of `use`. The API imports
 * half of the gateway, so it is loaded only here: wrong use and --help do not need it.
 */
export async function withControl<T>(
  io: CommandIo,
  options: ControlOptions,
  use: (control: Control) => Promise<T>,
): Promise<T> {
  const { openControl } = await import('./admin-client.js')
  const control = await openControl(io, options)
  try {
    return await use(control)
  } finally {
    await control.close()
  }
}
