// Tests src/cli/define-command.ts src/cli/commands/schema.ts
import { readFileSync } from 'node:fs'
import t from 'tap'
import { COMMANDS } from '../../src/cli/run-cli.js'
import { tidegate } from '../support/gateway/cli.js'

function rootFile(name: string): string {
  return readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')
}

t.test('--help names every command and the exit codes', async (t) => {
  const { code, stdout, stderr } = await tidegate(['--help'])
  t.equal(code, 0)
  t.equal(stderr, '')
  t.ok(Object.keys(COMMANDS).length >= 20)
  for (const name of Object.keys(COMMANDS)) t.match(stdout, new RegExp(`^ {2}${name} +\\w`, 'm'))
  t.ok(rootFile('docs/cli.md').includes(`$ tidegate --help\n${stdout}`), 'docs/cli.md shows the same')
  t.match(stdout, /Exit codes: 0 success, 1 the answer is no .*, 2 wrong use/)
})

t.test('every command has a help text of its own', async (t) => {
  for (const [name, [, load]] of Object.entries(COMMANDS)) {
    const { command } = await load()
    t.match(command.help, new RegExp(`^Usage: tidegate ${name}`))
    for (const line of command.help.split('\n'))
      t.ok(line.length <= 80, `${name} --help has on 80 columns: ${line}`)
  }
  const { command } = await COMMANDS.tier![1]()
  for (const args of [
    ['tier', '--help'],
    ['tier', 'demo-free', '-h'],
    ['help', 'tier'],
  ]) {
    t.strictSame(await tidegate(args), { code: 0, stdout: `${command.help}\n`, stderr: '' })
  }
})

t.test('--version prints the version of the package', async (t) => {
  const { stdout } = await tidegate(['--version'])
  t.equal(stdout, `${JSON.parse(rootFile('package.json')).version}\n`)
})

t.test('schema prints config/schema.json', async (t) => {
  const { code, stdout } = await tidegate(['schema'])
  t.equal(code, 0)
  t.equal(stdout, rootFile('config/schema.json'))
})

t.test('a missing or unknown command exits with 2 and one line that says what to do', async (t) => {
  const wrong: [args: string[], line: string][] = [
    [[], 'tidegate: no command given; see: tidegate --help'],
    [['strat'], 'tidegate: unknown command strat, did you mean start?; see: tidegate --help'],
    [['constructor'], 'tidegate: unknown command constructor; see: tidegate --help'],
    [['--verbose'], 'tidegate: unknown option --verbose; see: tidegate --help'],
    [['check', '-x'], 'tidegate check: unknown option -x; see: tidegate check --help'],
    [
      ['key', 'create', '--consumer', 'a', '--expires', '90'],
      'tidegate key: --expires needs a duration with its unit, such as 90d or 90m, not "90"; see: tidegate key --help',
    ],
    [
      ['key', 'rotate', 'b0371ddc9b29a812', '--overlap', 'soon'],
      'tidegate key: --overlap needs a duration with its unit, such as 90d, 12h or 30m, not "soon"; see: tidegate key --help',
    ],
    [
      ['tier', 'ann', 'free', '--for', '2'],
      'tidegate tier: --for needs a duration with its unit, such as 2d or 2m, not "2"; see: tidegate tier --help',
    ],
    [
      ['ban', '192.0.2.1', '--for', '1 h'],
      'tidegate ban: --for needs a duration with its unit, such as 90d, 12h or 30m, not "1 h"; see: tidegate ban --help',
    ],
  ]
  for (const [args, line] of wrong) {
    t.strictSame(await tidegate(args), { code: 2, stdout: '', stderr: `${line}\n` })
  }
})

const WRONG: readonly (readonly [args: string, problem: string])[] = [
  ['check --confg x', 'unknown option --confg, did you mean --config?; see: tidegate check --help'],
  ['check --toString', 'unknown option --toString; see: tidegate check --help'],
  ['check --config', '--config needs a value; see: tidegate check --help'],
  ['check --config=', '--config needs a value; see: tidegate check --help'],
  ['check --config --json', '--config needs a value; see: tidegate check --help'],
  ['check --json=yes', '--json takes no value; see: tidegate check --help'],
  ['check extra', '"extra" is one argument too many; see: tidegate check --help'],
  ['check -- --json', '"--json" is one argument too many; see: tidegate check --help'],
  ['usage', 'SERVICE and CONSUMER are missing; see: tidegate usage --help'],
  ['usage payments', 'CONSUMER is missing; see: tidegate usage --help'],
  [
    'usage a b --reset --tier x',
    '--reset forgets the usage under every tier: leave --tier out; see: tidegate usage --help',
  ],
  ['tier', 'CONSUMER is missing; see: tidegate tier --help'],
  ['tier a pro --remove', 'TIER and --remove exclude each other; see: tidegate tier --help'],
]

t.test('wrong use of a command is refused before the command does anything', async (t) => {
  for (const [line, problem] of WRONG) {
    const [name] = line.split(' ')
    const stderr = `tidegate ${name}: ${problem}\n`
    t.strictSame(await tidegate(line.split(' ')), { code: 2, stdout: '', stderr }, line)
  }
})

t.test('an empty argument is wrong use, not a consumer without a name', async (t) => {
  t.match(await tidegate(['tier', '']), { code: 2, stderr: 'tidegate tier: CONSUMER is empty' })
})
