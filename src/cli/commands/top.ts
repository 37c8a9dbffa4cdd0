import type { ReadStream, WriteStream } from 'node:tty'
import type { TopAnswer } from '../../admin/routes/top.js'
import { formatDuration, parseDuration } from '../../config/values/quantities.js'
import { DIMENSIONS, type Dimension } from '../../telemetry/top/top.js'
import { queryOf } from '../api-path.js'
import { didYouMean, WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { painter, print } from '../print/terminal.js'
import { topLines } from '../print/top-table.js'

const ONCE_ROWS = 20
const INTERVAL = '2s'
const SHORTEST = 500
const LONGEST = 3_600_000

export const command = adminCommand({
  name: 'top',
  usage: ['[--by limited|near|cost|share] [--service S] [--tier T] [--interval 2s] [--once]'],
  about: `Shows the consumers that are limited most, are near a limit, cost most, or want to hold more than their share, on all
gateways of the store. With --json, --once, or without a terminal, the command looks once.

On a terminal it goes on until you press q:
  l n c s       limited, near, cost, share
  left, right   another service
  up, down      further down the list
  q             quit`,
  whose: 'any',
  options: {
    by: {
      value: 'WHAT',
      help: `limited: most denied (the default); near: 80 % of a limit used; cost: most taken; share: refused because they
already hold as much at once as one consumer may`,
    },
    service: { value: 'SERVICE', help: 'only this service' },
    tier: { value: 'TIER', help: 'only this tier' },
    interval: { value: 'TIME', help: `time between two looks, 500ms to 1h; by default ${INTERVAL}` },
    once: { help: 'look once, without a full screen' },
  },
  run({ by = 'limited', service, tier, interval = INTERVAL, once, json }, _, io) {
    if (!(DIMENSIONS as readonly string[]).includes(by))
      throw new WrongUse(`--by is ${DIMENSIONS.join(', ')}, not ${by}${didYouMean(by, DIMENSIONS)}`)
    const intervalMs = parseDuration(interval)
    if (intervalMs === undefined || intervalMs < SHORTEST || intervalMs > LONGEST) {
      const range = `${formatDuration(SHORTEST)} to ${formatDuration(LONGEST)}`
      throw new WrongUse(`--interval needs a time, ${range}, such as ${INTERVAL}, not ${interval}`)
    }
    const what = { by: by as Dimension, service, tier }
    const { stdin, stdout, env } = io
    const paint = painter(stdout, env)
    return async (control) => {
      if (!json && !once && stdout.isTTY && stdin.isTTY) {
        const { watchTop } = await import('./top-watch.js')
        const streams = { stdin: stdin as ReadStream, stdout: stdout as WriteStream }
        return watchTop({ control, what, intervalMs, env, ...streams })
      }
      const query = queryOf({ by, n: String(ONCE_ROWS), service, tier })
      const told = await control.call<TopAnswer>('GET', `/top${query}`)
      if (json) return { data: told, text: '' }
      const columns = stdout.isTTY ? stdout.columns! : Number.POSITIVE_INFINITY
      const { head, rows, foot } = topLines({ ...what, told, problem: undefined, columns }, paint)
      const below = foot.length === 0 ? [] : ['', ...foot]
      print(io, [head[0], '', ...head.slice(1), ...rows, ...below].join('\n'))
      return 0
    }
  },
})
