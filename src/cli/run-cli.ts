import { readFileSync } from 'node:fs'
import { type Command, type CommandIo, nearest, Refused, WrongUse } from './command.js'
import { complain, print, printable, table } from './print/terminal.js'

/** Commands, loaded one at a time: `tidegate check` does not need a server. */
export const COMMANDS: Readonly<
  Record<string, { summary: string; load: () => Promise<{ command: Command }> }>
> = {
  start: { summary: 'run the gateway', load: () => import('./commands/start.js') },
  check: {
    summary: 'say whether a configuration is good, and what it holds',
    load: () => import('./commands/check.js'),
  },
  usage: {
    summary: 'show what a consumer has used of a service, or reset it',
    load: () => import('./commands/usage.js'),
  },
  why: { summary: 'say why a request was limited, or was not', load: () => import('./commands/why.js') },
  explain: {
    summary: 'say what would become of a request, without sending it',
    load: () => import('./commands/explain.js'),
  },
  plan: {
    summary: 'say what new limits would have done to logged traffic',
    load: () => import('./commands/plan.js'),
  },
  tier: { summary: 'show the tier of a consumer, or change it', load: () => import('./commands/tier.js') },
  boost: {
    summary: 'raise one limit of a consumer or tenant for a time',
    load: () => import('./commands/boost.js'),
  },
  override: {
    summary: 'give a consumer or tenant its own amount of one limit',
    load: () => import('./commands/override.js'),
  },
  key: {
    summary: 'make an API key, list the keys, replace or revoke one',
    load: () => import('./commands/key.js'),
  },
  import: {
    summary: 'put many consumers on tiers, from a table',
    load: () => import('./commands/import.js'),
  },
  ban: { summary: 'turn an address away, or show who is', load: () => import('./commands/ban.js') },
  unban: { summary: 'let an address in again', load: () => import('./commands/unban.js') },
  store: {
    summary: 'decide what holds when the store has forgotten something',
    load: () => import('./commands/store.js'),
  },
  upstreams: {
    summary: 'show how the upstreams are, drain one or restore it',
    load: () => import('./commands/upstreams.js'),
  },
  top: {
    summary: 'show who is limited now, near a limit, or costs most',
    load: () => import('./commands/top.js'),
  },
  audit: {
    summary: 'show what operators have changed: who, when and why',
    load: () => import('./commands/audit.js'),
  },
  schema: {
    summary: 'print the JSON schema of the configuration',
    load: () => import('./commands/schema.js'),
  },
  health: {
    summary: 'say whether the gateway of this machine should be given traffic',
    load: () => import('./commands/health.js'),
  },
  demo: {
    summary: 'run the gateway in front of two demo backends',
    load: () => import('./commands/demo.js'),
  },
  'demo-backend': {
    summary: 'run one demo backend by itself',
    load: () => import('./commands/demo-backend.js'),
  },
}

const HELP = `tidegate: a tiered API gateway

Usage: tidegate COMMAND [options]

${table(
  Object.entries(COMMANDS).map(([name, { summary }]) => [name, summary]),
  2,
)}

  tidegate COMMAND --help   how to use one of them
  tidegate --version

Exit codes: 0 well, 1 the answer is no (a bad configuration, say), 2 wrong use.`

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

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
  try {
    return await run(argv, io)
  } catch (error) {
    const expected = error instanceof WrongUse || error instanceof Refused
    // Any other error is a bug, and a report of it needs the stack. The text contains ids and answers of a gateway.
    complain(io, printable(expected ? error.message : String((error as Error).stack ?? error)))
    return error instanceof WrongUse ? 2 : 1
  }
}

async function run(argv: readonly string[], io: CommandIo): Promise<number> {
  const [name, ...rest] = argv[0] === 'help' && argv[1] !== undefined ? [argv[1], '--help'] : argv
  if (name === '--help' || name === '-h' || name === 'help') {
    print(io, HELP)
    return 0
  }
  if (name === '--version' || name === '-v') {
    print(io, version())
    return 0
  }
  if (name === undefined) throw new WrongUse('tidegate: no command given; see: tidegate --help')
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (entry === undefined) {
    const near = name.startsWith('-') ? undefined : nearest(name, Object.keys(COMMANDS))
    const kind = name.startsWith('-') ? 'option' : 'command'
    throw new WrongUse(
      `tidegate: unknown ${kind} ${name}${near === undefined ? '' : `, did you mean ${near}?`}; see: tidegate --help`,
    )
  }
  const { command } = await entry.load()
  if (asksForHelp(rest)) {
    print(io, command.help)
    return 0
  }
  return command.run(rest, io)
}
