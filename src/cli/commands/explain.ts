import { isIP } from 'node:net'
import type { Explained, ExplainQuestion } from '../../telemetry/decisions/explained-decision.js'
import { ADMIN_OPTION, OR_ASK_ADMIN } from '../client/admin-option.js'
import { askAdmin } from '../client/ask-admin.js'
import { withControl } from '../client/with-control.js'
import { type CommandIo, JSON_OPTION, Refused, WrongUse } from '../command.js'
import { CONFIG_OPTION, configFile, goodOf, readWithExtensions } from '../config-file.js'
import { defineCommand } from '../define-command.js'
import { describeAnswer, requestRows } from '../print/describe-decision.js'

export const command = defineCommand({
  name: 'explain',
  usage: [
    "METHOD URL [-H 'NAME: VALUE']... [--at ADDRESS] [--live | --admin HOST:PORT | --config FILE] [--json]",
  ],
  about: `Shows what would happen to a request: its route, the consumer, the tier, and the state of each limit. The command
sends nothing and takes no quota. URL is a path, or has a host: http://api.example.com/payments.`,
  notes: `Without --live or --admin, the command reads the configuration from the file. With store.redis, it reads counts and tiers
from the store. Without store.redis, they are in the gateway's memory, and only --live and --admin show them.`,
  options: {
    header: {
      value: "'NAME: VALUE'",
      short: 'H',
      multiple: true,
      help: 'a header of the request; repeatable',
    },
    at: { value: 'ADDRESS', help: 'the address that the request comes from; by default 127.0.0.1' },
    live: {
      help: 'ask the running gateway at admin.listen: its configuration, counts and circuit breakers',
    },
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    json: JSON_OPTION,
  },
  positionals: ['METHOD', 'URL'],
  async run({ header, at, live, admin, config }, [method = '', url = ''], io) {
    if (!/^[A-Za-z]{1,32}$/.test(method))
      throw new WrongUse(`METHOD is a method such as GET, not ${JSON.stringify(method)}`)
    if (at !== undefined && isIP(at) === 0)
      throw new WrongUse(`--at needs an address, such as 192.0.2.7, not ${at}`)
    const headers = (header ?? []).map(fieldOf)
    const question = { method: method.toUpperCase(), url, headers, peer: at ?? '127.0.0.1' }
    const { explained, note } =
      live || admin !== undefined
        ? await fromGateway(io, { config, admin }, question)
        : await fromFile(io, config, question)
    return { data: explained, text: (columns) => describe(explained, note, columns) }
  },
})

function fieldOf(text: string): readonly [string, string] {
  const colon = text.indexOf(':')
  const name = text.slice(0, Math.max(0, colon))
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name))
    throw new WrongUse("-H needs a name and a value, such as -H 'x-api-key: KEY'")
  const value = text.slice(colon + 1).trim()
  if (/[\0\r\n]/.test(value)) throw new WrongUse('-H needs a value on one line')
  return [name, value]
}

/** Begins the last line for a person, which says where the counts come from. */
const NOTHING = 'Nothing was sent, and no quota was taken.'

const COUNTS = {
  memory: 'as if there were no usage and no assigned tiers: the gateway has them in its memory (--live)',
  store: 'with the counts and tiers of the store',
  away: 'without the store, which is out of reach: its tiers, boosts, bans and API keys are unknown',
}

async function fromGateway(
  io: CommandIo,
  options: { config: string | undefined; admin: string | undefined },
  question: ExplainQuestion,
) {
  return withControl(io, { ...options, whose: 'gateway' }, async (control) => {
    const explained = await control.call<Explained>('POST', '/explain', question)
    const counts = explained.problem === null ? 'and counts' : 'without counts: its store is out of reach'
    return { explained, note: `${NOTHING} Based on the running gateway, its configuration ${counts}.` }
  })
}

async function fromFile(io: CommandIo, option: string | undefined, question: ExplainQuestion) {
  const file = configFile(io, option)
  const { config, prepared } = goodOf(await readWithExtensions(io, file), OR_ASK_ADMIN)
  const [{ compileSnapshot }, { adminOverStore }] = await Promise.all([
    import('../../config/snapshot/snapshot.js'),
    import('../client/own-admin.js'),
  ])
  const admin = await adminOverStore(
    file,
    compileSnapshot(config, Date.now(), undefined, prepared.hooks),
    false,
  )
  try {
    const { status, text } = await askAdmin(admin.address, 'POST', '/explain', question, undefined, PATIENCE)
    const explained = JSON.parse(text) as Explained & { detail?: string }
    if (status !== 200) throw new Refused(`${explained.detail}`)
    const silent = admin.tierSources
      .describe()
      .filter(({ counts: { questions } }) => questions.timeout + questions.error > 0)
    const unsaid = silent.map(({ source }) => ` The tier source ${source} did not answer.`).join('')
    const counts = COUNTS[config.store.redis === undefined ? 'memory' : admin.hasStore ? 'store' : 'away']
    return { explained, note: `${NOTHING} Based on ${file}, ${counts}.${unsaid}` }
  } finally {
    await admin.close()
  }
}

/** Longest wait in ms. Key sets and tier sources may have to be asked, each of which has a timeout of its own. */
const PATIENCE = 60_000

function describe(d: Explained, note: string, columns: number | undefined): string {
  const split = d.split?.map(({ service, weight }) => `${service} ${weight}`).join(', ')
  const rows = [
    ...requestRows(d),
    ['split', split === undefined ? '' : `${split}, at random`],
    ...(d.token === null ? [] : tokenRows(d.token)),
    ['fits, too', d.fits.slice(1).join(', ')],
    ['near', d.near.join(', ')],
    ['upstreams', upstreamsText(d.upstreams)],
    ['store', d.problem ?? ''],
  ]
  return describeAnswer(d, rows, columns, note)
}

/** Formats the upstreams. An older gateway does not report them. */
function upstreamsText(upstreams: Explained['upstreams'] | undefined): string {
  if (!upstreams) return ''
  const { all, serving, drained } = upstreams
  return `${serving} of ${all} serving${drained === 0 ? '' : `, ${drained} drained`}`
}

/** Lists the claims that were used. The rest of the token stays private. */
function tokenRows({
  issuer,
  claims,
  expires,
  unknown_tier: unknown,
}: NonNullable<Explained['token']>): string[][] {
  const used = Object.entries(claims).map(([name, value]) => `${name} ${value}`)
  return [
    ['token', `of ${issuer}, until ${expires}`],
    ['claims used', used.join(', ')],
    // An older gateway does not report this.
    ['not a tier', unknown ? `${unknown}, which the token names but this configuration does not have` : ''],
  ]
}
