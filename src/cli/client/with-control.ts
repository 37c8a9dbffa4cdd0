import type { CommandIo } from '../command.js'
import type { Control, ControlOptions } from './admin-client.js'

/**
 * Opens the admin API, lets `use` ask it, and closes it again, whatever comes of it. Resolves with what `use` does.
 * Half of the gateway comes along with it, and is read no earlier: wrong use and --help have no need of it.
 */
export async function withControl<T>(
  io: CommandIo,
  command: string,
  options: ControlOptions,
  use: (control: Control) => Promise<T>,
): Promise<T> {
  const { openControl } = await import('./admin-client.js')
  const control = await openControl(io, command, options)
  try {
    return await use(control)
  } finally {
    await control.close()
  }
}
