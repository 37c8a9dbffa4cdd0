import { isIP } from 'node:net'
import type { Bans } from '../../fleet/bans.js'
import type { Explained, ExplainQuestion } from '../../telemetry/decisions/explained-decision.js'
import { ADMIN_HELP, ADMIN_OPTION, orAskAdmin } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { type CommandIo, defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION, configFile, readGoodConfig } from '../config-file.js'
import { inTime } from '../in-time.js'
import { limitTable, requestRows } from '../print/describe-decision.js'
import { columnsOf, details, oneLine, print, printable, printJson, wrapped } from '../print/terminal.js'

export const command = defineCommand({
  name: 'explain',
  help: `Usage: tidegate explain METHOD URL [-H 'NAME: VALUE']... [--at ADDRESS]
                        [--live | --admin HOST:PORT] [--config FILE] [--json]

Says what would become of a request: its route, who is calling, the tier, and
how each limit stands. Nothing is sent, and no quota is taken. URL is a path, or
has a host: http://api.example.com/payments.

Options:
  -H 'NAME: VALUE'    a header of the request; may be given several times
  --at ADDRESS        where the request comes from; by default 127.0.0.1
  --live              ask the running gateway, at admin.listen: its
                      configuration, its counts, its circuit breakers
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

Without --live the configuration is read from the file. With store.redis, counts
and tiers are those of the store; without, they are in the gateway's memory, and
only --live knows them. --admin asks a running gateway, too.`,
  options: {
    header: { type: 'string', short: 'H', multiple: true },
    at: { type: 'string' },
    live: { type: 'boolean' },
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['METHOD', 'URL'],
  required: 2,
  async run({ header, at, live, admin, config, json }, io, [method = '', url = '']) {
    if (!/^[A-Za-z]{1,32}$/.test(method))
      throw new WrongUse(`tidegate explain: ${JSON.stringify(method)} is no method; such as GET`)
    if (at !== undefined && isIP(at) === 0)
      throw new WrongUse(`tidegate explain: --at takes an address, such as 192.0.2.7`)
    const headers = (header ?? []).map(fieldOf)
    const question = { method: method.toUpperCase(), url, headers, peer: at ?? '127.0.0.1' }
    const { explained, note } =
      live || admin !== undefined
        ? await ofGateway(io, { config, admin }, question)
        : await ofFile(io, config, question)
    if (json) printJson(io, explained)
    else print(io, printable(describe(explained, note, columnsOf(io.stdout))))
    return 0
  },
})

function fieldOf(text: string): readonly [string, string] {
  const colon = text.indexOf(':')
  const name = text.slice(0, Math.max(0, colon))
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name))
    throw new WrongUse(`tidegate explain: -H takes a name and a value, such as -H 'x-api-key: KEY'`)
  const value = text.slice(colon + 1).trim()
  if (/[\0\r\n]/.test(value)) throw new WrongUse('tidegate explain: -H takes a value on one line')
  return [name, value]
}

interface Answer {
  readonly explained: Explained
  /** Where the counts come from, for a person. */
  readonly note: string
}

async function ofGateway(
  io: CommandIo,
  options: { config: string | undefined; admin: string | undefined },
  question: ExplainQuestion,
): Promise<Answer> {
  return withControl(io, 'explain', { ...options, whose: 'gateway' }, async (control) => {
    const explained = await control.call<Explained>('POST', '/explain', question)
    const counts = explained.problem === null ? 'and counts' : 'without counts: its store is out of reach'
    return {
      explained,
      note: `Nothing was sent and nothing taken. By the running gateway, its configuration ${counts}.`,
    }
  })
}

async function ofFile(io: CommandIo, option: string | undefined, question: ExplainQuestion): Promise<Answer> {
  const file = configFile(io, 'explain', option)
  const config = readGoodConfig(io, 'explain', file, orAskAdmin('explain'))
  const [
    { compileSnapshot },
    { createBans },
    { openStore },
    { createKeyring },
    { createTokens },
    { createPlans },
    { createExplain },
  ] = await Promise.all([
    import('../../config/snapshot/snapshot.js'),
    import('../../fleet/bans.js'),
    import('../../fleet/open-store.js'),
    import('../../fleet/keyring.js'),
    import('../../credentials/tokens.js'),
    import('../../tier-sources/tier-sources.js'),
    import('../../gateway/simulate/explain.js'),
  ])
  const snapshot = compileSnapshot(config, Date.now())
  const log = { info() {}, warn() {} }
  const store = openStore(config.store, log, { decides: false, fleet: 'asks' })
  const tokens = createTokens({ log })
  const plans = createPlans({ settings: config.tier_sources, listen: false, log })
  let bans: Bans | undefined
  try {
    const loaded = await inTime(
      Promise.all([store.ready, store.assignments.ready, store.amounts.map.ready, store.bans.ready]),
      PATIENCE,
    )
    bans = createBans({ map: store.bans })
    const explain = createExplain({
      snapshot: () => snapshot,
      limiter: store.limiter,
      assignments: store.assignments,
      bans,
      plans,
      tokens,
      amounts: store.amounts,
      keyring: createKeyring({ store: () => store.keys }),
      guards: { describe: () => [] },
      upstreams: { describe: () => [] },
    })
    const whose =
      config.store.redis === undefined
        ? 'as if nothing had been used and nobody been assigned a tier: that is in the memory of the gateway (--live)'
        : loaded
          ? 'with the counts and tiers of the store'
          : 'without the store, which is out of reach: what it has of tiers, boosts, bans and API keys is not known'
    const explained = await explain(question)
    const silent = plans
      .describe()
      .filter(({ counts: { questions } }) => questions.timeout + questions.error > 0)
    const unsaid = silent.map(({ source }) => ` The tier source ${source} did not answer.`).join('')
    return { explained, note: `Nothing was sent and nothing taken. By ${file}, ${whose}.${unsaid}` }
  } finally {
    tokens.close()
    bans?.close()
    await Promise.all([store.close(), plans.close()])
  }
}

/** Longest wait for the first answer of the store, in ms. */
const PATIENCE = 3000

function describe(d: Explained, note: string, columns: number | undefined): string {
  const rows = [
    ...requestRows(d),
    ...(d.split === null
      ? []
      : [
          [
            'split',
            `${d.split.map(({ service, weight }) => `${service} ${weight}`).join(', ')}: chance takes one`,
          ],
        ]),
    ...(d.token === null ? [] : tokenRows(d.token)),
    ...(d.fits.length > 1 ? [['fits, too', d.fits.slice(1).join(', ')]] : []),
    ...(d.near.length === 0 ? [] : [['near', d.near.join(', ')]]),
    ...upstreamRows(d.upstreams),
    ...(d.problem === null ? [] : [['store', d.problem]]),
  ]
  const limits = limitTable(d.limits, columns)
  return [
    wrapped(oneLine(d.why), 0, columns),
    '',
    details(rows, columns),
    ...(limits === '' ? [] : ['', limits]),
    '',
    wrapped(note, 0, columns),
  ].join('\n')
}

/** Formats the upstreams. An older gateway does not report them. */
function upstreamRows(upstreams: Explained['upstreams'] | undefined): string[][] {
  if (!upstreams) return []
  const { all, serving, drained } = upstreams
  return [['upstreams', `${serving} of ${all} serving${drained === 0 ? '' : `, ${drained} drained`}`]]
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
    ...(unknown
      ? [['not a tier', `${unknown}, which the token names and this configuration does not have`]]
      : []),
  ]
}
