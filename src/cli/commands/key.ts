import { digestOf, idOfDigest, isKey } from '../../credentials/key-format.js'
import type { Control } from '../client/admin-client.js'
import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { type CommandIo, checkTime, defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { columnsOf, complain, listing, oneLine, print, printJson } from '../print/terminal.js'

const ACTIONS = ['create', 'list', 'rotate', 'revoke'] as const
type Action = (typeof ACTIONS)[number]

export const command = defineCommand({
  name: 'key',
  help: `Usage: tidegate key create --consumer ID [--tier TIER] [--tenant ID]
                           [--scopes A,B] [--expires DURATION] [--name TEXT]
       tidegate key list [--consumer ID]
       tidegate key rotate KEY-ID [--overlap DURATION] [--expires DURATION]
       tidegate key revoke KEY-ID

Makes API keys, lists them, replaces one by another, or ends one. All of it
holds on every gateway within a second. A key is shown once, when it is made:
the store has its SHA-256 alone. KEY-ID is the beginning of that; the key itself
will do, too, and is not sent anywhere: printf %s "$KEY" | sha256sum | cut
-c1-16

Options:
  --consumer ID       whose key it is: the id that quota is counted under
  --tier TIER         the tier that it brings; by default the default_tier
  --tenant ID         the tenant that the consumer belongs to
  --scopes A,B        what it allows, for routes that ask for scopes
  --expires DURATION  how long it works: 90d, 12h; by default without end; of
                      rotate as long as the old one was to
  --overlap DURATION  how long the old key still works: by default 24h; 0 ends
                      it at once
  --name TEXT         what it is used for, or by whom
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

With store.redis in the configuration the store is asked; without, the running
gateway, at admin.listen.`,
  options: {
    consumer: { type: 'string' },
    tier: { type: 'string' },
    tenant: { type: 'string' },
    scopes: { type: 'string' },
    expires: { type: 'string' },
    overlap: { type: 'string' },
    name: { type: 'string' },
    reason: REASON_OPTION,
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['ACTION', 'KEY-ID'],
  required: 1,
  async run({ admin, config, reason, json, ...given }, io, [action = '', id]) {
    const asked = checked(action, id, given)
    for (const name of ['expires', 'overlap'] as const) checkTime('key', `--${name}`, given[name])
    return withControl(io, 'key', { config, admin, reason }, async (control) => {
      if (asked === 'list') await list(io, control, given.consumer, json)
      else if (asked === 'revoke') await revoke(io, control, idOf(id!), json)
      else if (asked === 'rotate') await rotate(io, control, idOf(id!), given, json)
      else await create(io, control, given, json)
      return 0
    })
  },
})

type Given = Readonly<
  Record<
    'consumer' | 'tier' | 'tenant' | 'scopes' | 'expires' | 'overlap' | 'name',
    string | boolean | undefined
  >
>

/** Options of each action. */
const TAKES: Readonly<Record<Action, readonly string[]>> = {
  create: ['consumer', 'tier', 'tenant', 'scopes', 'expires', 'name'],
  list: ['consumer'],
  rotate: ['overlap', 'expires'],
  revoke: [],
}

function checked(text: string, id: string | undefined, given: Given): Action {
  const wrong = (what: string) => new WrongUse(`tidegate key: ${what}; see: tidegate key --help`)
  const action = ACTIONS.find((one) => one === text)
  if (action === undefined) throw wrong(`ACTION is one of ${ACTIONS.join(', ')}, not ${JSON.stringify(text)}`)
  const named = action === 'rotate' || action === 'revoke'
  if (named && id === undefined) throw wrong(`${action} needs a KEY-ID`)
  if (!named && id !== undefined) throw wrong(`${JSON.stringify(id)} is one argument too many`)
  const other = Object.entries(given).find(
    ([name, value]) => value !== undefined && !TAKES[action].includes(name),
  )
  if (other !== undefined) throw wrong(`${action} takes no --${other[0]}`)
  if (action === 'create' && given.consumer === undefined) throw wrong('create needs --consumer')
  return action
}

/** Key as the admin API returns it. */
interface Key {
  readonly id: string
  readonly consumer: string
  readonly tier: string | null
  readonly tenant: string | null
  readonly scopes: readonly string[] | null
  readonly name: string | null
  readonly created: string
  readonly expires: string | null
  readonly state: 'active' | 'expired'
  readonly replaced_by: string | null
  readonly last_used: string | null
}

interface Issued extends Key {
  readonly key: string
  readonly replaces?: Key
}

async function create(
  io: CommandIo,
  control: Control,
  given: Given,
  json: boolean | undefined,
): Promise<void> {
  const { scopes, expires, ...rest } = given
  const issued = await control.call<Issued>('POST', '/keys', {
    ...rest,
    ...(typeof scopes === 'string' ? { scopes: scopes.split(',').map((scope) => scope.trim()) } : {}),
    ...(expires === undefined ? {} : { expires_in: expires }),
  })
  show(io, issued, json)
}

async function rotate(
  io: CommandIo,
  control: Control,
  id: string,
  { overlap, expires }: Given,
  json: boolean | undefined,
): Promise<void> {
  const body = {
    ...(overlap === undefined ? {} : { overlap }),
    ...(expires === undefined ? {} : { expires_in: expires }),
  }
  const issued = await control.call<Issued>('POST', `/keys/${encodeURIComponent(id)}/rotate`, body)
  show(io, issued, json)
}

/** Prints the key alone on stdout, so that it can be piped. Everything else goes to stderr. */
function show(io: CommandIo, issued: Issued, json: boolean | undefined): void {
  if (json) {
    printJson(io, issued)
    return
  }
  print(io, issued.key)
  const { id, consumer, tier, expires, replaces } = issued
  const parts = [
    `key ${id} of ${consumer}`,
    ...(tier === null ? [] : [`tier ${tier}`]),
    expires === null ? 'without end' : `until ${moment(expires)}`,
  ]
  complain(io, oneLine(`${parts.join(', ')}. It is shown this once.`))
  if (replaces !== undefined)
    complain(io, `${replaces.id}, the old one, works until ${moment(replaces.expires!)}.`)
}

/**
 * Returns the id for a key or an id. A found key is complete: its id is computed here, and the key itself is sent
 * nowhere.
 */
function idOf(text: string): string {
  return isKey(text) ? idOfDigest(digestOf(text)) : text
}

async function revoke(io: CommandIo, control: Control, id: string, json: boolean | undefined): Promise<void> {
  const path = `/keys/${encodeURIComponent(id)}`
  const revoked = await control.call<{ id: string; consumer: string }>('DELETE', path)
  if (json) printJson(io, revoked)
  else print(io, oneLine(`${revoked.id} of ${revoked.consumer} is revoked`))
}

async function list(
  io: CommandIo,
  control: Control,
  consumer: string | boolean | undefined,
  json: boolean | undefined,
): Promise<void> {
  const all: Key[] = []
  let more = true
  while (more) {
    const query = new URLSearchParams()
    if (typeof consumer === 'string') query.set('consumer', consumer)
    if (all.length > 0) query.set('after', all.at(-1)!.id)
    const page = await control.call<{ keys: readonly Key[]; more: boolean }>('GET', `/keys?${query}`)
    all.push(...page.keys)
    more = page.more
  }
  all.sort((a, b) => compare(a.consumer, b.consumer) || compare(a.created, b.created))
  if (json) printJson(io, all)
  else if (all.length === 0)
    print(io, consumer === undefined ? 'No keys.' : oneLine(`No keys of ${consumer}.`))
  else print(io, listing(HEAD, rowsOf(all), columnsOf(io.stdout)))
}

const HEAD = ['id', 'consumer', 'tier', 'tenant', 'scopes', 'name', 'created', 'expires', 'last used']

function rowsOf(keys: readonly Key[]): string[][] {
  return keys.map((key) => [
    key.id,
    key.consumer,
    key.tier ?? '',
    key.tenant ?? '',
    key.scopes?.join(',') ?? '',
    key.name ?? '',
    key.created.slice(0, 10),
    ending(key),
    key.last_used === null ? 'never' : moment(key.last_used),
  ])
}

function ending({ expires, state, replaced_by: by }: Key): string {
  const next = by === null ? '' : `, then ${by}`
  if (expires === null) return 'never'
  return state === 'expired' ? `expired ${moment(expires)}${next}` : `${moment(expires)}${next}`
}

/** Formats a time in ISO 8601, to the minute. */
function moment(time: string): string {
  return `${time.slice(0, 16).replace('T', ' ')}Z`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
