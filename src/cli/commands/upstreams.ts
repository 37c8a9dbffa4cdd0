import type { ServiceState } from '../../admin/service-state.js'
import type { UpstreamState } from '../../upstream/pool/state.js'
import { apiPath } from '../api-path.js'
import { missingText, Refused, WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { remarked, wrapped } from '../print/terminal.js'
import { ago } from '../print/time.js'

export const command = adminCommand({
  name: 'upstreams',
  usage: ['[SERVICE]', 'SERVICE --drain ADDRESS', 'SERVICE --restore ADDRESS'],
  about: `Shows the state of the upstreams, drains one, or restores it. ADDRESS is the address in the configuration, or its
host and port.`,
  notes: `A drained upstream stays drained in that gateway until you restore it, its address leaves the configuration, or the
gateway ends.`,
  whose: 'gateway',
  changes: true,
  options: {
    drain: {
      value: 'ADDRESS',
      help: 'send no new requests to this upstream of SERVICE; requests in flight finish',
    },
    restore: { value: 'ADDRESS', help: 'send it requests again, also after an ejection' },
  },
  positionals: ['[SERVICE]'],
  run({ drain, restore }, [service]) {
    if (drain !== undefined && restore !== undefined)
      throw new WrongUse('--drain and --restore exclude each other')
    const address = drain ?? restore
    if (address !== undefined && service === undefined) throw new WrongUse(missingText(['SERVICE']))
    return async (control) => {
      if (service !== undefined && address !== undefined) {
        const state = drain === undefined ? 'serving' : 'drained'
        const path = apiPath`/upstreams/${service}/${address}`
        const set = await control.call<UpstreamState>('PUT', path, { state })
        return { data: set, text: `${set.address} of ${service}: ${withWhy(set)}` }
      }
      const told = await control.call<Told>('GET', '/upstreams')
      const shown = service === undefined ? told : only(service, told)
      return { data: shown, text: (columns) => describe(shown, columns) }
    }
  },
})

interface Told {
  readonly upstreams: readonly UpstreamState[]
  /** Missing from gateways of an older version. */
  readonly services?: readonly ServiceState[] | undefined
}

function only(service: string, { upstreams, services }: Told): Told {
  const isIts = (one: { readonly service: string }) => one.service === service
  const shown = upstreams.filter(isIts)
  if (shown.length > 0) return { upstreams: shown, services: services?.filter(isIts) }
  const names = [...new Set(upstreams.map((one) => one.service))].join(', ')
  throw new Refused(`No service "${service}"; the services are ${names}.`)
}

const HEAD = ['upstream', 'state', 'for', 'weight', 'in flight', 'ejected', 'last check', 'why']

function describe({ upstreams, services = [] }: Told, columns: number | undefined): string {
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
