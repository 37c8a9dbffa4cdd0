import { apiPath, queryOf } from '../api-path.js'
import type { Control } from '../client/admin-client.js'
import { type Command, checkTime, missingText, WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { listing } from '../print/terminal.js'
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

/** Boosts or overrides after which a list of very many ends. */
const MOST_LISTED = 1000

interface Words {
  readonly name: 'boost' | 'override'
  /** Name of the option, and of the API's key, that holds the number. */
  readonly number: 'by' | 'amount'
  readonly about: string
  readonly numberHelp: string
  /** True if the change must have an end. */
  readonly ends: boolean
}

export function amountCommand({ name, number, about, numberHelp, ends }: Words): Command {
  const OF = 'CONSUMER --service SERVICE --limit LIMIT'
  return adminCommand({
    name,
    usage: [
      `${OF} --${number} N ${ends ? '--for TIME' : '[--for TIME]'}`,
      `${OF} --remove`,
      '[CONSUMER] [--service SERVICE] --list [--after CURSOR]',
    ],
    about,
    whose: 'store',
    changes: true,
    options: {
      tenant: {
        value: 'TENANT',
        help: 'in place of CONSUMER: for every consumer of a tenant, and for the quota that they share',
      },
      service: { value: 'SERVICE', help: 'the service that the limit belongs to' },
      limit: { value: 'LIMIT', help: 'the name of the limit: minute, or as tidegate usage shows it' },
      [number]: { value: 'N', help: numberHelp },
      for: {
        value: 'TIME',
        help: 'how long, such as 30m, 2h or 7d; it then ends by itself on every gateway',
      },
      remove: { help: 'end it now' },
      list: { help: `show the ${name}s in force, the one that ends first on top` },
      after: { value: 'CURSOR', help: 'with --list: go on where an earlier list of very many ended' },
    },
    positionals: ['[CONSUMER]'],
    run(values, [consumer]) {
      const { tenant, service, limit, for: time, remove, list, after } = values
      const text = (values as Readonly<Record<string, string | undefined>>)[number]
      const id = consumer ?? tenant
      if (consumer !== undefined && tenant !== undefined)
        throw new WrongUse('CONSUMER and --tenant exclude each other')
      if (list) {
        if (remove || text !== undefined || time !== undefined || limit !== undefined)
          throw new WrongUse('--list changes nothing: leave the other options out')
      } else if (after !== undefined) {
        throw new WrongUse('--after is for --list')
      } else {
        const needed = { 'CONSUMER or --tenant': id, '--service': service, '--limit': limit }
        const added = remove ? {} : { [`--${number}`]: text, ...(ends && { '--for': time }) }
        const missing = Object.entries({ ...needed, ...added }).flatMap(([option, value]) =>
          value === undefined ? [option] : [],
        )
        if (missing.length > 0) throw new WrongUse(missingText(missing))
        if (remove && (text !== undefined || time !== undefined))
          throw new WrongUse(`--remove takes no --${number} and no --for`)
        if (text !== undefined && !/^[0-9]{1,9}$/.test(text))
          throw new WrongUse(`--${number} needs a whole number, not ${text}`)
      }
      checkTime('--for', time)
      return async (control) => {
        if (list) {
          const found = await read(control, `${name}s`, { consumer, tenant, service }, after)
          return {
            data: found,
            text: (columns) => listText(name, number, found[`${name}s`]!, found.not_shown, columns),
            warning:
              found.next === undefined ? undefined : `there are more; go on with --after ${found.next}`,
          }
        }
        const of = consumer === undefined ? 'tenant' : 'consumer'
        const path = `/${name}s${apiPath`/${service!}/${limit!}/${of}/${id!}`}`
        const whose = of === 'tenant' ? `tenant ${id}` : id
        const done = remove
          ? await control.call<Shown>('DELETE', path)
          : await control.call<Shown>('PUT', path, { [number]: Number(text), for: time })
        const { by, amount, until, amounts } = done
        const what = remove
          ? `no ${name} of ${limit} on ${service} any more`
          : `${by === undefined ? amount : `${by} more`} of ${limit} on ${service}${untilText(until) || ', until it is removed'}`
        return { data: done, text: `${whose}: ${what}; by tier: ${amountsText(amounts)}` }
      }
    },
  })
}

type Listed = Record<string, readonly Shown[]> & { readonly not_shown: number; readonly next?: string }

/** Reads a list. Of very many the gateway returns some at a time, or none that fit. */
async function read(
  control: Control,
  what: string,
  query: Readonly<Record<string, string | undefined>>,
  after: string | undefined,
): Promise<Listed> {
  const all: Shown[] = []
  let next = after
  for (;;) {
    const page: Listed = await control.call('GET', `/${what}${queryOf({ ...query, after: next })}`)
    all.push(...page[what]!)
    next = page.next
    if (next === undefined || all.length >= MOST_LISTED) return { ...page, [what]: all, next } as Listed
  }
}

/** Formats the amounts as `free 510, pro 600`. */
function amountsText(amounts: Shown['amounts']): string {
  return Object.entries(amounts)
    .map(([tier, amount]) => `${tier} ${amount}`)
    .join(', ')
}

function listText(
  name: string,
  number: 'by' | 'amount',
  all: readonly Shown[],
  notShown: number,
  columns: number | undefined,
): string {
  if (all.length === 0) return `No ${name} is in force.`
  const rows = all.map((one) => [
    one.tenant === undefined ? one.consumer! : `tenant ${one.tenant}`,
    one.service,
    one.limit,
    String(one[number]),
    untilText(one.until).replace(' until ', '') || 'you remove it',
    amountsText(one.amounts),
    one.reason ?? '',
  ])
  const more = notShown === 0 ? '' : `\n\nand ${notShown} more; ask for one CONSUMER or --tenant`
  return listing(['whose', 'service', 'limit', number, 'until', 'by tier', 'reason'], rows, columns) + more
}
