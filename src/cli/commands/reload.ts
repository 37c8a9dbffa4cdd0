import type { ReloadResult } from '../../config/load/recent-reloads.js'
import type { ConfigStatus } from '../../config/load/reload.js'
import { adminCommand } from '../define-command.js'
import { wrapped } from '../print/terminal.js'
import { toSecond } from '../print/time.js'

type Reloaded = Pick<ConfigStatus, 'file' | 'hash' | 'loadedAt' | 'changed' | 'warnings'> & {
  readonly result: ReloadResult
}

export const command = adminCommand({
  name: 'reload',
  usage: [''],
  about: `Makes a running gateway read its configuration file again, and shows what changed. The gateway also reads the file by itself
when it changes; use this command in a deployment, which then knows the outcome. Exit code 1: the file has errors, and the
last good configuration stays in force.`,
  notes: `Only that gateway reads its file. To wait until all gateways have the configuration: tidegate fleet --wait HASH`,
  whose: 'gateway',
  changes: true,
  options: {},
  run: () => async (control) => {
    const data = await control.call<Reloaded>('POST', '/config/reload')
    return { data, text: (columns) => describe(data, columns) }
  },
})

/** Formats the outcome for a person. */
export function describe(
  { result, file, hash, loadedAt, changed, warnings }: Reloaded,
  columns: number | undefined,
): string {
  // The gateway often reads a changed file before the command asks: the changes are shown then, too.
  const state = result === 'applied' ? 'is in force now' : `has not changed since ${toSecond(loadedAt)}`
  const lines = [`${file} ${state}, hash ${hash}`, ...changed.map((change) => `  ${change}`)]
  const all = warnings.length === 0 ? lines : [...lines, 'warnings', ...warnings.map((one) => `  ${one}`)]
  return all.map((line) => wrapped(line, line.startsWith('  ') ? 2 : 0, columns)).join('\n')
}
