import type { ServiceState } from '../../admin/service-state.js'
import type { UpstreamState } from '../../upstream/pool/state.js'
import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { defineCommand, Refused, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { columnsOf, oneLine, print, printable, printJson, remarked, wrapped } from '../print/terminal.js'

export const command = defineCommand({
  name: 'upstreams',
  help: `Usage: tidegate upstreams [SERVICE] [--drain ADDRESS | --restore ADDRESS]
                          [--reason TEXT]
                          [--admin HOST:PORT | --config FILE] [--json]

Shows how the upstreams are, takes one of a service out, or gives it requests
again.

Options:
  --drain ADDRESS     no new requests to this upstream of SERVICE; those under
                      way go on to their end
  --restore ADDRESS   requests again, also for one that was ejected
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

ADDRESS is the one of the configuration, or its host and port. The running
gateway is asked, at admin.listen; what is drained there is drained until it is
restored, the address leaves the configuration, or that gateway ends.`,
  options: {
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    drain: { type: 'string' },
    restore: { type: 'string' },
    reason: REASON_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['SERVICE'],
  async run({ admin, config, reason, drain, restore, json }, io, [service]) {
    if (drain !== undefined && restore !== undefined) {
      throw new WrongUse('tidegate upstreams: --drain and --restore exclude each other; give one of them')
    }
    const address = drain ?? restore
    if (address !== undefined && service === undefined) {
      throw new WrongUse('tidegate upstreams: SERVICE is missing; see: tidegate upstreams --help')
    }
    return withControl(io, 'upstreams', { config, admin, reason, whose: 'gateway' }, async (control) => {
      if (service !== undefined && address !== undefined) {
        const path = `/upstreams/${encodeURIComponent(service)}/${encodeURIComponent(address)}`
        const state = drain === undefined ? 'serving' : 'drained'
        const set = await control.call<UpstreamState>('PUT', path, { state })
        if (json) printJson(io, set)
        else print(io, oneLine(`${set.address} of ${service}: ${withWhy(set)}`))
        return 0
      }
      const { upstreams, services } = await control.call<Told>('GET', '/upstreams')
      const shown = service === undefined ? upstreams : upstreams.filter((one) => one.service === service)
      if (shown.length === 0 && service !== undefined) {
        const names = [...new Set(upstreams.map((one) => one.service))].join(', ')
        throw new Refused(`tidegate upstreams: No service "${service}"; the services are ${names}.`)
      }
      if (json) printJson(io, shown)
      else print(io, printable(describe(shown, columnsOf(io.stdout), services)))
      return 0
    })
  },
})

interface Told {
  readonly upstreams: readonly UpstreamState[]
  /** Missing from gateways of an older version. */
  readonly services?: readonly ServiceState[]
}

const HEAD = ['upstream', 'state', 'for', 'weight', 'in flight', 'ejected', 'last check', 'why']

function describe(
  upstreams: readonly UpstreamState[],
  columns: number | undefined,
  services: readonly ServiceState[] = [],
): string {
  const sections: string[] = []
  for (const service of new Set(upstreams.map((one) => one.service))) {
    const own = upstreams.filter((one) => one.service === service)
    const rows = own.map((one) => [
      one.address,
      one.state,
      ago(one.since),
      String(one.weight),
      `${one.in_flight}/${one.max_connections}${one.tunnels > 0 ? ` + ${one.tunnels} tunnels` : ''}`,
      one.ejections === 0 ? '' : times(one.ejections),
      checkOf(one),
      one.why ?? '',
    ])
    const facts = factsOf(
      own[0]!.waiting,
      services.find((one) => one.service === service),
    )
    const head = facts.length === 0 ? service : `${service}: ${facts.join(', ')}`
    sections.push([wrapped(head, 0, columns), remarked(HEAD, rows, columns), ...namesOf(own)].join('\n'))
  }
  return sections.join('\n\n')
}

/** Describes a service as a whole. Leaves out what it does not have and what has not happened. */
function factsOf(waiting: number, state: ServiceState | undefined): string[] {
  const facts: string[] = []
  if (state !== undefined) {
    const { circuit, concurrency, retries } = state
    if (circuit !== null) facts.push(`circuit ${circuit.replace('_', ' ')}`)
    if (concurrency !== null) facts.push(`${concurrency.in_flight} of ${concurrency.limit} at once`)
    const again = Object.entries(retries).filter(([, count]) => count > 0)
    if (again.length > 0)
      facts.push(`retries: ${again.map(([what, count]) => `${count} ${what.replace('_', ' ')}`).join(' / ')}`)
  }
  if (waiting > 0) facts.push(`${waiting} waiting`)
  return facts
}

function withWhy({ state, why }: UpstreamState): string {
  return why === null ? state : `${state}, ${why}`
}

function checkOf({ last_check: check }: UpstreamState): string {
  if (check === null) return ''
  return `${check.passed ? 'passed' : 'failed'} ${ago(check.at)} ago: ${check.detail}`
}

/** Returns a line for each name, with the addresses that it resolves to. */
function namesOf(upstreams: readonly UpstreamState[]): string[] {
  const lines = new Map<string, string>()
  for (const { address, resolved, dns_error: error } of upstreams) {
    if (resolved === null) continue
    const failed = error === null ? '' : ` (the latest look-up failed: ${error})`
    const found = resolved.length === 0 ? 'has no address' : `is ${resolved.join(', ')}`
    lines.set(new URL(address).hostname, `${found}${failed}`)
  }
  return [...lines].map(([name, text]) => `  ${name} ${text}`)
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`
}

function ago(time: string): string {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} days`
}
