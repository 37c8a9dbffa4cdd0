import type { MeterAnswer } from '../../admin/routes/meter.js'
import type { MeterInterval, MeterState } from '../../metering/metering.js'
import { queryOf } from '../api-path.js'
import { WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { listing } from '../print/terminal.js'
import { ago, roundedDuration, tableTime } from '../print/time.js'

export const command = adminCommand({
  name: 'meter',
  usage: ['[CONSUMER] [-n COUNT]', '--resend FROM..TO'],
  about: `Shows whether the usage of consumers reaches its receiver: what waits, what was sent, and what is wrong. With CONSUMER, an
id of a consumer or tenant, it shows what that one has used in the latest intervals.`,
  notes: `--resend sends intervals again that were sent before, with the same ids. A receiver that removes duplicates counts them once.
FROM and TO are moments such as 2026-11-25T08:00Z.`,
  whose: 'gateway',
  changes: true,
  options: {
    count: { value: 'COUNT', short: 'n', help: 'the latest intervals, 1 to 100; by default 10' },
    resend: { value: 'FROM..TO', help: 'send the intervals that began between these moments again' },
  },
  positionals: ['[CONSUMER]'],
  run({ count: n, resend }, [consumer]) {
    if (resend !== undefined) {
      const [from, to, ...more] = resend.split('..')
      if (from === undefined || to === undefined || more.length > 0 || !(Date.parse(from) < Date.parse(to)))
        throw new WrongUse(
          `--resend needs FROM..TO, such as 2026-11-25T08:00Z..2026-11-25T09:00Z, not ${resend}`,
        )
      return async (control) => {
        const data = await control.call<{ intervals: number }>('POST', '/meter/resend', { from, to })
        const none = 'No interval of that time is kept as sent; nothing is sent again.'
        const text = data.intervals === 0 ? none : `${data.intervals} intervals are sent again.`
        return { data, text, code: data.intervals === 0 ? 1 : 0 }
      }
    }
    return async (control) => {
      const data = await control.call<MeterAnswer>('GET', `/meter${queryOf({ consumer, n })}`)
      const text = (columns: number | undefined) =>
        consumer === undefined ? stateOf(data.processes, columns) : usedBy(consumer, data.intervals, columns)
      return { data, text }
    }
  },
})

const STATE = ['worker', 'groups', 'waiting', 'lag', 'on disk', 'sent', 'sent to', 'problem']

function stateOf(processes: readonly MeterState[], columns: number | undefined): string {
  if (processes.length === 0) return 'No process serves requests at the moment.'
  const rows = processes.map((one, i) => [
    processes.length === 1 ? '' : String(i + 1),
    String(one.groups),
    String(one.waiting),
    roundedDuration(one.lag_ms),
    bytes(one.spool_bytes),
    String(one.sent),
    one.sent_to === null ? '' : `${ago(one.sent_to)} ago`,
    problemOf(one),
  ])
  return listing(STATE, rows, columns)
}

function problemOf({ problem, unsaved_ms: unsaved }: MeterState): string {
  const disk = unsaved > 0 ? `not saved for ${roundedDuration(unsaved)}` : undefined
  return [disk, problem].filter((one) => typeof one === 'string').join('; ')
}

const USED = [
  'interval',
  'service',
  'tier',
  'route',
  'requests',
  'cost',
  'denied',
  'bytes in',
  'bytes out',
  'marks',
  'state',
]

function usedBy(consumer: string, intervals: readonly MeterInterval[], columns: number | undefined): string {
  if (intervals.length === 0) return `${consumer} has used nothing in the latest intervals of this gateway.`
  const rows = intervals.map(({ state, event: { time, data } }) => [
    tableTime(time),
    ...['service', 'tier', 'route', 'requests', 'cost', 'denied'].map((name) => shown(data[name])),
    ...['request_bytes', 'response_bytes'].map((name) =>
      data[name] === undefined ? '' : bytes(Number(data[name])),
    ),
    ['fail_open', 'local', 'refunded']
      .filter((name) => Number(data[name] ?? 0) > 0)
      .map((name) => `${name} ${data[name]}`)
      .join(', '),
    state,
  ])
  return listing(USED, rows, columns)
}

const shown = (value: unknown): string => (value === undefined ? '' : String(value))

function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB']
  let unit = 0
  let value = count
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}
