import { pino } from 'pino'
import { type AccessLog, NO_ACCESS_LOG } from '../../telemetry/logs/access-log.js'
import type { EventLog } from '../../telemetry/logs/log.js'
import type { RequestRecord } from '../../telemetry/record/record.js'
import type { Paint } from './terminal.js'

/** Lines per second that a person can follow. Further lines are counted. */
const MAX_LINES = 20
const MAX_PATH = 60

/** Prints the gateway's two logs for a person at a terminal: one short line for a request or an event. */
export function createDemoLog(print: (line: string) => void, paint: Paint, now: () => number = Date.now) {
  let second = 0
  let shown = 0
  let held = 0

  function showRequest(record: RequestRecord): void {
    const current = Math.floor(now() / 1000)
    if (current !== second) {
      if (held > 0) print(paint('dim', `  … and ${held} more`))
      second = current
      shown = 0
      held = 0
    }
    if (shown < MAX_LINES) print(describeRequest(record, paint))
    else held++
    shown++
  }

  const accessLog: AccessLog = { ...NO_ACCESS_LOG, write: showRequest }
  const events: EventLog = {
    log: pino({ base: null, timestamp: false }, { write: (line) => showEvent(line, print, paint) }),
    flush: () => Promise.resolve(),
    flushSync() {},
    dropped: () => 0,
    close: () => Promise.resolve(),
  }
  return { accessLog, events }
}

/** Prints an event that a person waits for or must know. The demo itself reports start and end. */
function showEvent(line: string, print: (line: string) => void, paint: Paint): void {
  const { level, msg, changed, messages } = JSON.parse(line) as {
    level: number
    msg: string
    /** Set for a reload. */
    changed?: string[]
    messages?: string[]
  }
  const isTrouble = level > pino.levels.values.info!
  if (!isTrouble && messages === undefined) return
  print(paint(isTrouble ? 'yellow' : 'cyan', `  ${msg}`))
  for (const detail of [...(changed ?? []), ...(messages ?? [])]) print(`    ${detail}`)
}

export function describeRequest(record: RequestRecord, paint: Paint): string {
  const { method, status, target, consumer } = record
  const path = printable(target.split('?', 1)[0] ?? '')
  const colour = status < 400 ? 'green' : status < 500 ? 'yellow' : 'red'
  const tier = record.snapshot.tiers[record.tier]
  const who = consumer === undefined ? '' : `${printable(consumer)}${tier === undefined ? '' : ` (${tier})`}`
  return `  ${paint(colour, String(status))}  ${method.padEnd(6)} ${path.padEnd(24)}  ${who.padEnd(20)}  ${outcome(record)}`.trimEnd()
}

function outcome({ error, decision, exempt, route, policy, tier, snapshot }: RequestRecord): string {
  if (decision === undefined)
    return error ?? (snapshot.tiers[tier] === undefined ? '' : exempt === true ? 'exempt' : 'unlimited')
  const name = policy?.limits[decision.binding]?.name ?? 'quota'
  if (decision.allowed) return error ?? `${name}: ${decision.remaining} left`
  const left = decision.remaining > 0 ? `${decision.remaining} left, ${route?.cost} needed` : 'spent'
  const again = decision.retryMs < 0 ? 'never enough' : `again in ${Math.ceil(decision.retryMs / 1000)} s`
  return `${name}: ${left}, ${again}`
}

/** Escapes a client's text, which must not control or fill the terminal. */
function printable(text: string): string {
  const safe = text.replace(/[^\x20-\x7e]/g, '?')
  return safe.length > MAX_PATH ? `${safe.slice(0, MAX_PATH - 1)}…` : safe
}
