import { readVersion } from '../version.js'
import { type Command, type CommandIo, didYouMean, Refused, RefusedAsIs, WrongUse } from './command.js'
import { complain, print, printable, table } from './print/terminal.js'

type Load = () => Promise<{ readonly command: Command }>

/** Commands with what they do, loaded one at a time: `tidegate check` does not need a server. */
export const COMMANDS: Readonly<Record<string, readonly [summary: string, load: Load]>> = {
  start: ['run the gateway', () => import('./commands/start.js')],
  check: ['check a configuration and show what it holds', () => import('./commands/check.js')],
  config: ['show every value in force, and where it comes from', () => import('./commands/config.js')],
  usage: ['show what a consumer has used of a service, or reset it', () => import('./commands/usage.js')],
  why: ['show why a request was limited, or was not', () => import('./commands/why.js')],
  explain: ['show what would happen to a request, without sending it', () => import('./commands/explain.js')],
  plan: ['show what new limits would have done to logged traffic', () => import('./commands/plan.js')],
  tier: ['show the tier of a consumer, or change it', () => import('./commands/tier.js')],
  boost: ['raise one limit of a consumer or tenant for a time', () => import('./commands/boost.js')],
  override: [
    'set one limit of a consumer or tenant to another amount',
    () => import('./commands/override.js'),
  ],
  key: ['create, list, rotate or revoke API keys', () => import('./commands/key.js')],
  import: ['assign tiers to many consumers, from a table', () => import('./commands/import.js')],
  ban: ['ban an address, or show the bans', () => import('./commands/ban.js')],
  unban: ['lift the ban of an address', () => import('./commands/unban.js')],
  store: ['decide what holds when the store has forgotten something', () => import('./commands/store.js')],
  upstreams: [
    'show the state of the upstreams, drain or restore one',
    () => import('./commands/upstreams.js'),
  ],
  fleet: ['show the gateways, and which configuration each has', () => import('./commands/fleet.js')],
  reload: ['make the gateway read its configuration again', () => import('./commands/reload.js')],
  top: ['show who is limited now, near a limit, or costs most', () => import('./commands/top.js')],
  meter: ['show what is metered for billing, and whether it arrives', () => import('./commands/meter.js')],
  audit: ['show what operators have changed: who, when and why', () => import('./commands/audit.js')],
  extension: ['write a starting point for an extension', () => import('./commands/extension.js')],
  schema: ['print the JSON schema of the configuration', () => import('./commands/schema.js')],
  health: ['say whether the gateway on this machine takes traffic', () => import('./commands/health.js')],
  demo: ['run the gateway in front of two demo backends', () => import('./commands/demo.js')],
  'demo-backend': ['run one demo backend by itself', () => import('./commands/demo-backend.js')],
}

const HELP = `tidegate: a tiered API gateway

Usage: tidegate COMMAND [options]

${table(
  Object.entries(COMMANDS).map(([name, [summary]]) => [name, summary]),
  2,
)}

  tidegate COMMAND --help   how to use one of them
  tidegate --version

Exit codes: 0 success, 1 the answer is no (a bad configuration, say), 2 wrong use.`

/** Returns true if help is requested before `--`. Arguments behind it are data. */
function asksForHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  return argv.slice(0, end < 0 ? argv.length : end).some((arg) => arg === '--help' || arg === '-h')
}

/**
 * Runs a command line, such as `tidegate check --json`, and resolves with its exit code.
 *
 * @param argv arguments after `tidegate`
 */
export async function runCli(argv: readonly string[], io: CommandIo): Promise<number> {
  const [name = '', ...rest] = argv[0] === 'help' && argv[1] !== undefined ? [argv[1], '--help'] : argv
  if (['--help', '-h', 'help'].includes(name)) {
    print(io, HELP)
    return 0
  }
  if (name === '--version' || name === '-v') {
    print(io, readVersion())
    return 0
  }
  const [, load] = (Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined) ?? []
  const program = load === undefined ? 'tidegate' : `tidegate ${name}`
  try {
    if (load === undefined) throw new WrongUse(unknownText(name))
    const { command } = await load()
    if (!asksForHelp(rest)) return await command.run(rest, io)
    print(io, command.help)
    return 0
  } catch (error) {
    // The text contains ids and answers of a gateway.
    complain(io, printable(problemText(program, error as Error)))
    return error instanceof WrongUse ? 2 : 1
  }
}

function problemText(program: string, error: Error): string {
  if (error instanceof WrongUse) return `${program}: ${error.message}; see: ${program} --help`
  if (error instanceof RefusedAsIs) return error.message
  // Any other error is a bug, and a report of it needs the stack.
  return error instanceof Refused ? `${program}: ${error.message}` : String(error.stack ?? error)
}

function unknownText(name: string): string {
  if (name === '') return 'no command given'
  if (name.startsWith('-')) return `unknown option ${name}`
  return `unknown command ${name}${didYouMean(name, Object.keys(COMMANDS))}`
}
