import { setImmediate } from 'node:timers/promises'
import { createBlock, readBlock } from '../../net/parse-cidr.js'
import { createPrefixTrie, type PrefixTrie } from '../../net/prefix-trie.js'
import type { Config } from '../schema/schema.js'
import { blocksIn } from '../values/address-file.js'
import type { NamedFile } from '../values/read-file.js'
import { type Cdn, compileCdn } from './cdn.js'

/** Compiled rules for clients that are turned away before anything else. */
export interface EdgeRules {
  /** True if there is any rule to check. */
  readonly active: boolean
  readonly cdn: Cdn
  readonly denied: AddressSet | undefined
  readonly allowed: AddressSet | undefined
  readonly deny: Criteria | undefined
  readonly allow: Criteria | undefined
  /** True if connections are closed without a response. */
  readonly silent: boolean
  readonly ipLimit: IpLimit | undefined
  readonly autoBan: AutoBanSettings | undefined
}

export type AddressSet = Pick<PrefixTrie, 'match' | 'read' | 'size'>

export interface AddressRate {
  /** Time that one request takes from the bucket, in ms. */
  readonly each: number
  /** Bucket size, in requests. */
  readonly burst: number
}

export interface IpLimit extends AddressRate {
  /** Maximum number of addresses remembered. */
  readonly addresses: number
}

export interface AutoBanSettings {
  readonly denials: AddressRate
  readonly authFailures: AddressRate
  /** Length of a ban, in ms. */
  readonly forMs: number
  readonly max: number
  /** True if all gateways share the bans. */
  readonly share: boolean
}

export type Criterion = 'country' | 'user_agent' | 'path' | 'bot_score'

/** Rules on properties of a request other than its address. */
export interface Criteria {
  /**
   * Returns the first rule that matches.
   *
   * @param pathsOf returns the possible readings of the path, in lower case. Called only if there are rules on paths.
   */
  match(asked: CriteriaInput, pathsOf: () => readonly string[]): Criterion | undefined
}

export interface CriteriaInput {
  /** Country code in capitals. */
  readonly country: string | undefined
  readonly userAgent: string | undefined
  readonly botScore: number | undefined
}

type Rules = Config['edge']['deny']

export function compileEdge(settings: Config['edge']): EdgeRules {
  const { deny, allow, cdn, action, ip_limit: limit, auto_ban: ban } = settings
  const rules = {
    cdn: compileCdn(cdn),
    denied: compileAddresses(deny),
    allowed: compileAddresses(allow),
    deny: compileCriteria(deny),
    allow: compileCriteria(allow),
    silent: action === 'close',
    ipLimit: limit && { ...rateOf(limit.rate, limit.burst), addresses: limit.addresses },
    autoBan: ban && {
      denials: rateOf(ban.after_denials),
      authFailures: rateOf(ban.after_auth_failures),
      forMs: ban.for,
      max: ban.max,
      share: ban.share,
    },
  }
  const active = rules.denied !== undefined || rules.deny !== undefined || rules.ipLimit !== undefined
  return { active, ...rules }
}

function rateOf(
  { amount, window }: { readonly amount: number; readonly window: number },
  burst = amount,
): AddressRate {
  return { each: window / amount, burst }
}

/** Latest compiled lists, by their texts: raising a limit does not rebuild a list of 100,000. */
const latest: { readonly texts: readonly string[]; readonly set: AddressSet }[] = []
const KEPT = 4

/** Blocks added to a list before the event loop handles requests again: about 2 ms. */
const SLICE = 2000

/**
 * Builds the address lists of a configuration while requests go on, so that `compileEdge` finds them ready. Half a
 * million blocks take most of a second.
 */
export async function prepareAddresses({ deny, allow }: Config['edge']): Promise<void> {
  for (const rules of [deny, allow]) {
    const list = listOf(rules)
    if (list === undefined || latest.some((one) => isMadeOf(one, list))) continue
    const making = make(list)
    let step = making.next()
    for (; !step.done; step = making.next()) await setImmediate()
    keep(list, step.value)
  }
}

function compileAddresses(rules: Rules): AddressSet | undefined {
  const list = listOf(rules)
  if (list === undefined) return undefined
  const known = latest.find((one) => isMadeOf(one, list))
  if (known !== undefined) return known.set
  const making = make(list)
  let step = making.next()
  while (!step.done) step = making.next()
  return keep(list, step.value)
}

interface AddressList {
  readonly blocks: readonly string[]
  readonly files: readonly NamedFile[]
  /** Texts that distinguish this list from another. */
  readonly texts: readonly string[]
}

function listOf(rules: Rules): AddressList | undefined {
  const blocks = rules.filter((rule) => typeof rule === 'string')
  const files = rules.flatMap((rule) => (typeof rule === 'object' && 'file' in rule ? [rule.file] : []))
  if (blocks.length === 0 && files.length === 0) return undefined
  return { blocks, files, texts: [blocks.join(), ...files.map(({ text }) => text)] }
}

function isMadeOf(one: (typeof latest)[number], { texts }: AddressList): boolean {
  return one.texts.length === texts.length && one.texts.every((text, i) => text === texts[i])
}

function keep({ texts }: AddressList, set: AddressSet): AddressSet {
  latest.unshift({ texts, set })
  latest.length = Math.min(latest.length, KEPT)
  return set
}

/** Builds the list in slices. The caller may do other work after each slice. */
function* make({ blocks, files }: AddressList): Generator<void, AddressSet> {
  const set = createPrefixTrie()
  const block = createBlock()
  let count = 0
  for (const texts of [blocks, ...files.map(blocksIn)]) {
    for (const text of texts) {
      readBlock(text, block)
      set.set(block, Number.POSITIVE_INFINITY)
      if (++count % SLICE === 0) yield
    }
  }
  return set
}

/** Longest part of a User-Agent that is checked, in characters. Clients choose its length. */
const LONGEST_AGENT = 1024

function compileCriteria(rules: Rules): Criteria | undefined {
  const objects = rules.filter((rule) => typeof rule === 'object')
  const countries = new Set(objects.flatMap((rule) => ('country' in rule ? rule.country : [])))
  const agents = objects.flatMap((rule) => ('user_agent' in rule ? [rule.user_agent] : []))
  const exact = new Set(agents.flatMap((rule) => ('exact' in rule ? [rule.exact.toLowerCase()] : [])))
  const prefixes = agents.flatMap((rule) => ('prefix' in rule ? [rule.prefix.toLowerCase()] : []))
  const pieces = agents.flatMap((rule) => ('contains' in rule ? [rule.contains.toLowerCase()] : []))
  const paths = objects.flatMap((rule) => ('path' in rule ? [rule.path] : []))
  const fits = paths.map(pathRule)
  const least = Math.max(0, ...objects.map((rule) => ('bot_score_below' in rule ? rule.bot_score_below : 0)))
  if (countries.size === 0 && agents.length === 0 && paths.length === 0 && least === 0) return undefined

  function agentFits(userAgent: string | undefined): boolean {
    if (agents.length === 0) return false
    const agent = (userAgent ?? '').slice(0, LONGEST_AGENT).toLowerCase()
    return (
      exact.has(agent) ||
      prefixes.some((prefix) => agent.startsWith(prefix)) ||
      pieces.some((piece) => agent.includes(piece))
    )
  }

  return {
    match({ country, userAgent, botScore }, pathsOf) {
      if (country !== undefined && countries.has(country)) return 'country'
      if (botScore !== undefined && botScore < least) return 'bot_score'
      if (agentFits(userAgent)) return 'user_agent'
      if (fits.length === 0) return undefined
      return pathsOf().some((path) => fits.some((fit) => fit(path))) ? 'path' : undefined
    },
  }
}

function pathRule(rule: string): (path: string) => boolean {
  if (rule.endsWith('*')) {
    const start = rule.slice(0, -1)
    return (path) => path.startsWith(start)
  }
  const whole = rule.endsWith('/') ? rule.slice(0, -1) : rule
  const below = `${whole}/`
  return (path) => path === whole || path.startsWith(below)
}
