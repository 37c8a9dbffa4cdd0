import type { ReadStream, WriteStream } from 'node:tty'
import { formatDuration, parseDuration } from '../../config/values/quantities.js'
import { DIMENSIONS, type Dimension } from '../../telemetry/top/top.js'
import { ADMIN_HELP, ADMIN_OPTION } from '../client/admin-option.js'
import { askTop } from '../client/ask-top.js'
import { withControl } from '../client/with-control.js'
import { defineCommand, nearest, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { painter, print, printJson } from '../print/terminal.js'
import { topLines } from '../print/top-table.js'

const ONCE_ROWS = 20
const INTERVAL = '2s'
const SHORTEST = 500
const LONGEST = 3_600_000

export const command = defineCommand({
  name: 'top',
  help: `Usage: tidegate top [--by limited|near|cost|share] [--service S] [--tier T]
                    [--interval 2s] [--once]
                    [--admin HOST:PORT | --config FILE] [--json]

Shows which consumers are limited now, near a limit, cost most, or hold a
share already and want more, of all gateways on the store.

Options:
  --by WHAT           limited: denied most (the default); near: with 80 % of a
                      limit used; cost: taking most; share: refused
                      because they hold as much at once as one may
  --service SERVICE   of one service
  --tier TIER         of one tier
  --interval TIME     between two looks, 500ms to 1h; by default ${INTERVAL}
  --once              once, and not on a screen of its own
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON, once

On a terminal it goes on until q is pressed:
  l n c s       limited, near, cost, share
  left, right   another service
  up, down      further down the list
  q             the end

The running gateway is asked, at admin.listen, and asks the others. Where none
runs on this machine, store.redis leads to them.`,
  options: {
    by: { type: 'string' },
    service: { type: 'string' },
    tier: { type: 'string' },
    interval: { type: 'string' },
    once: { type: 'boolean' },
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    json: { type: 'boolean' },
  },
  async run({ by = 'limited', service, tier, interval = INTERVAL, once, admin, config, json }, io) {
    const wrong = (what: string) => new WrongUse(`tidegate top: ${what}; see: tidegate top --help`)
    if (!(DIMENSIONS as readonly string[]).includes(by)) {
      const near = nearest(by, DIMENSIONS)
      const hint = near === undefined ? '' : `, did you mean ${near}?`
      throw wrong(`--by is ${DIMENSIONS.join(', ')}, not ${by}${hint}`)
    }
    const intervalMs = parseDuration(interval)
    if (intervalMs === undefined || intervalMs < SHORTEST || intervalMs > LONGEST) {
      const range = `${formatDuration(SHORTEST)} to ${formatDuration(LONGEST)}`
      throw wrong(`--interval is a time, ${range}, such as ${INTERVAL}, not ${interval}`)
    }
    const what = { by: by as Dimension, service, tier }
    return withControl(io, 'top', { config, admin, whose: 'any' }, async (control) => {
      const { stdin, stdout } = io
      if (json) printJson(io, await askTop(control, what, ONCE_ROWS))
      else if (once || !stdout.isTTY || !stdin.isTTY) {
        const columns = stdout.isTTY ? stdout.columns! : Number.POSITIVE_INFINITY
        const told = await askTop(control, what, ONCE_ROWS)
        const { head, rows, foot } = topLines(
          { ...what, told, problem: undefined, columns },
          painter(stdout, io.env),
        )
        print(
          io,
          [head[0], '', ...head.slice(1), ...rows, ...(foot.length === 0 ? [] : ['', ...foot])].join('\n'),
        )
      } else {
        const { watchTop } = await import('./top-watch.js')
        return await watchTop({
          control,
          what,
          intervalMs,
          stdin: stdin as ReadStream,
          stdout: stdout as WriteStream,
          env: io.env,
        })
      }
      return 0
    })
  },
})
