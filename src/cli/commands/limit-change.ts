import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { type Command, checkTime, defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { columnsOf, listing, oneLine, print, printJson } from '../print/terminal.js'
import { untilText } from '../print/tier-origin.js'

/** Shared code of `tidegate boost` and `tidegate override`, which change single limits for a consumer or a tenant. */

interface Shown {
  readonly consumer?: string
  readonly tenant?: string
  readonly service: string
  readonly limit: string
  readonly by?: number
  readonly amount?: number
  readonly until: string | null
  readonly reason: string | null
  /** Resulting amount of the limit, by tier. */
  readonly amounts: Readonly<Record<string, number>>
}

interface Words {
  readonly name: 'boost' | 'override'
  /** Name of the option, and of the API's key, that holds the number. */
  readonly number: 'by' | 'amount'
  readonly what: string
  readonly numberHelp: string
  /** True if the change must have an end. */
  readonly ends: boolean
}

export function amountCommand({ name, number, what, numberHelp, ends }: Words): Command {
  const period = ends ? '--for TIME' : '[--for TIME]'
  const indent = ' '.repeat(`Usage: tidegate ${name} `.length)
  return defineCommand({
    name,
    help: `Usage: tidegate ${name} CONSUMER --service SERVICE --limit LIMIT --${number} N
${indent}         ${period} [--reason TEXT]
${indent}CONSUMER --service SERVICE --limit LIMIT --remove
${indent}         [--reason TEXT]
${indent}[CONSUMER] [--service SERVICE] --list
       each with [--admin HOST:PORT | --config FILE] [--json], and with
       --tenant TENANT in place of CONSUMER

${what}

Options:
  --tenant TENANT     for every consumer of a tenant, and for the quota that
                      they share, in place of CONSUMER
  --service SERVICE   on which service
  --limit LIMIT       which of its limits, by its name: minute, or as tidegate
                      usage shows it
${numberHelp}
  --for TIME          such as 30m, 2h or 7d, after which it ends by itself, on
                      every gateway
  --remove            end it now
  --list              show those that hold, the one that ends first on top
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

With store.redis in the configuration the store is asked; without, the running
gateway, at admin.listen.`,
    options: {
      admin: ADMIN_OPTION,
      config: CONFIG_OPTION,
      tenant: { type: 'string' },
      service: { type: 'string' },
      limit: { type: 'string' },
      [number]: { type: 'string' },
      for: { type: 'string' },
      remove: { type: 'boolean' },
      list: { type: 'boolean' },
      reason: REASON_OPTION,
      json: { type: 'boolean' },
    },
    positionals: ['CONSUMER'],
    async run(values, io, [consumer]) {
      const given = values as Readonly<Record<string, string | undefined>> & {
        readonly remove?: boolean
        readonly list?: boolean
        readonly json?: boolean
      }
      const wrong = (text: string) => new WrongUse(`tidegate ${name}: ${text}; see: tidegate ${name} --help`)
      const { tenant, service, limit, for: time, remove, list, json } = given
      const text = given[number]
      if (consumer !== undefined && tenant !== undefined)
        throw wrong('CONSUMER and --tenant exclude each other')
      if (list) {
        if (remove || text !== undefined || time !== undefined || limit !== undefined) {
          throw wrong('--list changes nothing; leave the rest out')
        }
      } else {
        const id = consumer ?? tenant
        const missing = Object.entries({ 'CONSUMER or --tenant': id, '--service': service, '--limit': limit })
          .concat(
            remove ? [] : [[`--${number}`, text], ...(ends ? [['--for', time] as [string, undefined]] : [])],
          )
          .filter(([, value]) => value === undefined)
          .map(([option]) => option)
        const last = missing.pop()
        if (last !== undefined) {
          const all = missing.length === 0 ? `${last} is` : `${missing.join(', ')} and ${last} are`
          throw wrong(`${all} missing`)
        }
        if (remove && (text !== undefined || time !== undefined)) {
          throw wrong(`--remove takes no --${number} and no --for`)
        }
        if (text !== undefined && !/^[0-9]{1,9}$/.test(text)) {
          throw wrong(`--${number} takes a whole number, not ${text}`)
        }
      }
      const { config, admin, reason } = given
      checkTime(name, '--for', time)
      return withControl(io, name, { config, admin, reason }, async (control) => {
        if (list) {
          const asked = Object.entries({ consumer, tenant, service }).filter(
            ([, value]) => value !== undefined,
          )
          const query = new URLSearchParams(asked as [string, string][])
          const found = await control.call<Record<string, readonly Shown[]> & { not_shown: number }>(
            'GET',
            `/${name}s?${query}`,
          )
          if (json) printJson(io, found)
          else print(io, listText(name, number, found[`${name}s`]!, found.not_shown, columnsOf(io.stdout)))
          return 0
        }
        const [of, id] = consumer === undefined ? ['tenant', tenant!] : ['consumer', consumer]
        const path = `/${name}s/${[service!, limit!, of, id].map(encodeURIComponent).join('/')}`
        const done = remove
          ? await control.call<Shown>('DELETE', path)
          : await control.call<Shown>('PUT', path, {
              [number]: Number(text),
              ...(time === undefined ? {} : { for: time }),
            })
        if (json) printJson(io, done)
        else print(io, oneLine(remove ? removedText(name, of, id, done) : setText(name, of, id, done)))
        return 0
      })
    },
  })
}

const whoseText = (of: string, id: string) => (of === 'tenant' ? `tenant ${id}` : id)

/** Formats the amounts as `free 510, pro 600`. */
function amountsText(amounts: Shown['amounts']): string {
  return Object.entries(amounts)
    .map(([tier, amount]) => `${tier} ${amount}`)
    .join(', ')
}

function setText(
  name: string,
  of: string,
  id: string,
  { service, limit, by, amount, until, amounts }: Shown,
): string {
  const how = name === 'boost' ? `${by} more` : `${amount}`
  return `${whoseText(of, id)}: ${how} of ${limit} on ${service}${untilText(until) || ', until it is removed'}; by tier: ${amountsText(amounts)}`
}

function removedText(name: string, of: string, id: string, { service, limit, amounts }: Shown): string {
  return `${whoseText(of, id)}: no ${name} of ${limit} on ${service} any more; by tier: ${amountsText(amounts)}`
}

function listText(
  name: string,
  number: 'by' | 'amount',
  all: readonly Shown[],
  notShown: number,
  columns: number | undefined,
): string {
  if (all.length === 0) return `No ${name} holds.`
  const rows = all.map((one) => [
    one.tenant === undefined ? one.consumer! : `tenant ${one.tenant}`,
    one.service,
    one.limit,
    String(one[number]),
    untilText(one.until).replace(' until ', '') || 'for good',
    amountsText(one.amounts),
    one.reason ?? '',
  ])
  const more = notShown === 0 ? '' : `\n\nand ${notShown} more; ask for one CONSUMER or --tenant`
  return listing(['whose', 'service', 'limit', number, 'until', 'by tier', 'reason'], rows, columns) + more
}
