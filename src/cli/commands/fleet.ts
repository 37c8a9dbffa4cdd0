import { setTimeout as delay } from 'node:timers/promises'
import type { FleetAnswer } from '../../admin/routes/fleet.js'
import { formatDuration, parseDuration } from '../../config/values/quantities.js'
import type { Control } from '../client/admin-client.js'
import { type CommandIo, checkTime, Refused, WrongUse } from '../command.js'
import { adminCommand, type Result } from '../define-command.js'
import {
  describeFleet,
  describeMissing,
  describeReceipts,
  type Missing,
  processesText,
} from '../print/fleet-table.js'
import { complain, counted, page, printable } from '../print/terminal.js'

const TIMEOUT = '1m'
/** Interval between two looks while waiting, in ms. */
const LOOK_EVERY = 500

export const command = adminCommand({
  name: 'fleet',
  usage: ['[--group GROUP] [--receipts]', '--wait HASH [--group GROUP] [--timeout TIME]'],
  about: `Shows the gateways on the store: version, configuration and since when, whether they serve or are degraded, how far
they are behind changes, and their requests a second. A gateway that differs from most of its group is marked.`,
  notes: `Exit code of --wait: 0 when all live gateways have the configuration; 1 at the timeout, with those that do not have it.
A gateway that is not running, or has lost the store, is not waited for.`,
  whose: 'any',
  options: {
    group: { value: 'GROUP', help: 'only the gateways of this group' },
    receipts: { help: 'show when each gateway took its last configurations' },
    wait: {
      value: 'HASH',
      help: 'wait until all gateways have this configuration; tidegate check --hash prints it',
    },
    timeout: { value: 'TIME', help: `longest wait, such as 30s or 5m; by default ${TIMEOUT}` },
  },
  run({ group, receipts = false, wait, timeout, json = false }, _, io) {
    if (wait !== undefined && !/^[0-9a-f]{12}$/.test(wait))
      throw new WrongUse(`--wait needs a hash of 12 digits, as tidegate check --hash prints it, not ${wait}`)
    if (wait === undefined && timeout !== undefined) throw new WrongUse('--timeout needs --wait')
    if (wait !== undefined && receipts) throw new WrongUse('--wait and --receipts exclude each other')
    checkTime('--timeout', timeout)
    const patience = parseDuration(timeout ?? TIMEOUT)!
    return async (control) => {
      if (wait !== undefined) return waitFor(control, { hash: wait, group, patience, json }, io)
      const answer = only(group, await ask(control))
      return {
        data: answer,
        text: (columns) =>
          page(describeFleet(answer, columns), receipts ? describeReceipts(answer, columns) : ''),
      }
    }
  },
})

interface Wanted {
  readonly hash: string
  readonly group: string | undefined
  /** Ms. */
  readonly patience: number
  readonly json: boolean
}

function ask(control: Control): Promise<FleetAnswer> {
  return control.call<FleetAnswer>('GET', '/fleet')
}

/** Leaves out the other groups. Nothing is known about the group of a process without a status. */
function only(group: string | undefined, answer: FleetAnswer): FleetAnswer {
  if (group === undefined) return answer
  return { ...answer, gateways: answer.gateways.filter((one) => one.group === group) }
}

/** How far a configuration has come. */
interface Progress extends Missing {
  /** True if all live gateways have it. */
  readonly complete: boolean
  readonly gateways: number
  readonly problem: string | null
}

const NONE: FleetAnswer['unknown'] = { processes: 0, names: [] }

function progressOf(
  { gateways, left_out, problem, ...answer }: FleetAnswer,
  { hash, group }: Wanted,
): Progress {
  const missing = gateways.filter(({ config }) => config.hash !== hash || config.others.length > 0)
  // Versions without a status have no groups either.
  const unknown = group === undefined ? answer.unknown : NONE
  const isAll = missing.length === 0 && unknown.processes === 0 && left_out === 0 && problem === null
  return {
    hash,
    complete: isAll && gateways.length > 0,
    gateways: gateways.length,
    missing,
    unknown,
    problem: left_out === 0 ? problem : `there are more gateways than the ${gateways.length} that are listed`,
  }
}

function progressText({ gateways, missing, unknown, problem }: Progress, { hash, group }: Wanted): string {
  if (problem !== null) return problem
  const which = group === undefined ? '' : ` of ${group}`
  if (gateways === 0) return `no gateway${which} is alive`
  const total = counted(gateways, 'gateway')
  const others = unknown.processes === 0 ? '' : `; ${processesText(unknown.processes)} without a status`
  return `${gateways - missing.length} of ${total}${which} ${gateways === 1 ? 'has' : 'have'} ${hash}${others}`
}

/** Looks until all gateways have a configuration, or the time is up. Says on stderr how far it is. */
async function waitFor(control: Control, wanted: Wanted, io: CommandIo): Promise<Result> {
  const until = performance.now() + wanted.patience
  let told = ''
  let latest: Progress | undefined
  for (;;) {
    let text: string
    try {
      latest = progressOf(only(wanted.group, await ask(control)), wanted)
      text = progressText(latest, wanted)
      if (latest.complete) return { data: latest, text }
    } catch (error) {
      // The gateway that is asked may be restarting.
      if (!(error instanceof Refused)) throw error
      text = error.message
    }
    if (performance.now() + LOOK_EVERY > until) {
      const last = latest
      if (last === undefined) throw new Refused(text)
      return {
        data: last,
        text: (columns) =>
          page(`after ${formatDuration(wanted.patience)}: ${text}`, describeMissing(last, columns)),
        code: 1,
      }
    }
    if (!wanted.json && text !== told) complain(io, `tidegate fleet: ${printable(text)}`)
    told = text
    await delay(LOOK_EVERY)
  }
}
