import type { KeyData } from '../../admin/routes/keys.js'
import { byText } from '../../common/by-text.js'
import { digestOf, idOfDigest, isKey } from '../../credentials/key-format.js'
import { apiPath, queryOf } from '../api-path.js'
import type { Control } from '../client/admin-client.js'
import { checkTime, missingText, type OptionValues, WrongUse } from '../command.js'
import { adminCommand, type Result } from '../define-command.js'
import { listing, oneLine } from '../print/terminal.js'

const OPTIONS = {
  consumer: { value: 'ID', help: 'the consumer whose key it is: the id that quota is counted under' },
  tier: { value: 'TIER', help: 'the tier that the key gives; by default the default_tier' },
  tenant: { value: 'ID', help: 'the tenant that the consumer belongs to' },
  scopes: { value: 'A,B', help: 'the scopes of the key, for routes that require scopes' },
  expires: {
    value: 'DURATION',
    help: 'how long the key works: 90d, 12h; by default without end, and after rotate as long as the old key',
  },
  overlap: {
    value: 'DURATION',
    help: 'how long the old key still works; by default 24h, and 0 ends it at once',
  },
  after: { value: 'CURSOR', help: 'where an earlier list of very many keys ended' },
  name: { value: 'TEXT', help: 'what the key is used for, or by whom' },
} as const

type Given = OptionValues<typeof OPTIONS>

/** Options of each action. */
const TAKES = {
  create: ['consumer', 'tier', 'tenant', 'scopes', 'expires', 'name'],
  list: ['consumer', 'after'],
  rotate: ['overlap', 'expires'],
  revoke: [],
} as const satisfies Readonly<Record<string, readonly (keyof Given)[]>>

type Action = keyof typeof TAKES

export const command = adminCommand({
  name: 'key',
  usage: [
    'create --consumer ID [--tier TIER] [--tenant ID] [--scopes A,B] [--expires DURATION] [--name TEXT]',
    'list [--consumer ID] [--after CURSOR]',
    'rotate KEY-ID [--overlap DURATION] [--expires DURATION]',
    'revoke KEY-ID',
  ],
  about: `Creates API keys, lists them, replaces one by another, or revokes one. Every change takes effect on every gateway
within a second. The command shows a key once, when it creates it: the store has only its SHA-256. KEY-ID is the beginning of
that hash. You can also give the key itself, which is not sent anywhere: printf %s "$KEY" | sha256sum | cut -c1-16`,
  whose: 'store',
  changes: true,
  options: OPTIONS,
  positionals: ['ACTION', '[KEY-ID]'],
  run({ consumer, tier, tenant, scopes, expires, overlap, after, name }, [text = '', keyId]) {
    const given: Given = { consumer, tier, tenant, scopes, expires, overlap, after, name }
    const action = checked(text, keyId, given)
    checkTime('--expires', expires)
    checkTime('--overlap', overlap)
    // A found key is complete: its id is computed here, and the key itself is sent nowhere.
    const id = keyId !== undefined && isKey(keyId) ? idOfDigest(digestOf(keyId)) : (keyId ?? '')
    return async (control): Promise<Result> => {
      if (action === 'list') return list(control, consumer, after)
      if (action === 'revoke') {
        const revoked = await control.call<{ id: string; consumer: string }>('DELETE', apiPath`/keys/${id}`)
        return { data: revoked, text: `${revoked.id} of ${revoked.consumer} is revoked` }
      }
      const issued = await (action === 'rotate'
        ? control.call<Issued>('POST', apiPath`/keys/${id}/rotate`, { overlap, expires_in: expires })
        : control.call<Issued>('POST', '/keys', {
            ...{ consumer, tier, tenant, name, expires_in: expires },
            scopes: scopes?.split(',').map((scope) => scope.trim()),
          }))
      return { data: issued, text: issued.key, aside: issuedText(issued) }
    }
  },
})

function checked(text: string, id: string | undefined, given: Given): Action {
  const actions = Object.keys(TAKES) as Action[]
  const action = actions.find((one) => one === text)
  if (action === undefined)
    throw new WrongUse(`ACTION is one of ${actions.join(', ')}, not ${JSON.stringify(text)}`)
  const named = action === 'rotate' || action === 'revoke'
  if (named && id === undefined) throw new WrongUse(`${action} needs a KEY-ID`)
  if (!named && id !== undefined) throw new WrongUse(`${JSON.stringify(id)} is one argument too many`)
  const takes: readonly string[] = TAKES[action]
  const other = Object.entries(given).find(([name, value]) => value !== undefined && !takes.includes(name))
  if (other !== undefined) throw new WrongUse(`${action} takes no --${other[0]}`)
  if (action === 'create' && given.consumer === undefined) throw new WrongUse(missingText(['--consumer']))
  return action
}

interface Issued extends KeyData {
  readonly key: string
  readonly replaces?: KeyData
}

/** Describes a new key, beside the key itself, which alone goes to stdout so that it can be piped. */
function issuedText({ id, consumer, tier, expires, replaces }: Issued): string {
  const ofTier = tier === null ? '' : `, tier ${tier}`
  const until = expires === null ? 'without end' : `until ${moment(expires)}`
  const old =
    replaces === undefined ? '' : `\nThe old key ${replaces.id} works until ${moment(replaces.expires!)}.`
  return `${oneLine(`key ${id} of ${consumer}${ofTier}, ${until}`)}. It is shown only once.${old}`
}

async function list(
  control: Control,
  consumer: string | undefined,
  after: string | undefined,
): Promise<Result> {
  const byId = new Map<string, KeyData>()
  let page: KeyPage
  let next = after
  do {
    page = await control.call<KeyPage>('GET', `/keys${queryOf({ consumer, after: next })}`)
    // Keys that are read from the store may come twice.
    for (const key of page.keys) byId.set(key.id, key)
    next = page.next
  } while (next !== undefined && byId.size < MOST_LISTED)
  const all = [...byId.values()]
  const byAge = byText<KeyData>(({ consumer: id, created }) => `${id}\0${created}`)
  const none = consumer === undefined ? 'There are no keys.' : `${consumer} has no keys.`
  return {
    data: { ...page, keys: all },
    text: all.length === 0 ? none : (columns) => listing(HEAD, rowsOf(all.toSorted(byAge)), columns),
    warning: next === undefined ? undefined : `there are more; go on with --after ${next}`,
  }
}

interface KeyPage {
  readonly keys: readonly KeyData[]
  /** Where the next page begins. Left out of the last one. */
  readonly next?: string
}

/** Keys after which a list ends. */
const MOST_LISTED = 500_000

const HEAD = ['id', 'consumer', 'tier', 'tenant', 'scopes', 'name', 'created', 'expires', 'last used']

function rowsOf(keys: readonly KeyData[]): string[][] {
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

function ending({ expires, state, replaced_by: by }: KeyData): string {
  const next = by === null ? '' : `, then ${by}`
  if (expires === null) return 'never'
  return state === 'expired' ? `expired ${moment(expires)}${next}` : `${moment(expires)}${next}`
}

/** Formats a time in ISO 8601, to the minute. */
function moment(time: string): string {
  return `${time.slice(0, 16).replace('T', ' ')}Z`
}
