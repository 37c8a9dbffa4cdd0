import type { AskedParty, Control } from './client/admin-client.js'
import { ADMIN_OPTION, REASON_OPTION } from './client/admin-option.js'
import { withControl } from './client/with-control.js'
import {
  type ArgumentSpec,
  type Command,
  type CommandIo,
  JSON_OPTION,
  type OptionSpecs,
  type OptionValues,
  readArguments,
} from './command.js'
import { CONFIG_OPTION } from './config-file.js'
import {
  columnsOf,
  complain,
  helpText,
  oneLine,
  print,
  printable,
  printJson,
  wrapped,
} from './print/terminal.js'

/** Answer of a command. */
export interface Result {
  /** Printed as JSON with `--json`. */
  readonly data: unknown
  /** Printed otherwise: a sentence, or a function that lays a page out for a terminal of so many columns. */
  readonly text: string | ((columns: number | undefined) => string)
  /** Exit code; 0 if left out. */
  readonly code?: 0 | 1
  /** Printed on stderr after the answer, with the command in front. */
  readonly warning?: string | undefined
  /** Printed on stderr after the answer for a person; empty: nothing. */
  readonly aside?: string | undefined
}

interface CommandSpec<O extends OptionSpecs> extends ArgumentSpec<O> {
  readonly name: string
  /** Forms of the command line after its name, such as `BLOCK [--for TIME]`. */
  readonly usage: readonly string[]
  /** Options that every form takes, too. */
  readonly tail?: string
  /** Help above the options. Lines that begin with a space keep their breaks. */
  readonly about: string
  /** Help below the options. */
  readonly notes?: string
}

type Run<O extends OptionSpecs, R> = (
  values: OptionValues<O>,
  positionals: readonly string[],
  io: CommandIo,
) => R

/** Makes a command that parses its arguments before it runs. `run` resolves with an answer, or with an exit code. */
export function defineCommand<const O extends OptionSpecs>(
  spec: CommandSpec<O> & { readonly run: Run<O, Promise<Result | number>> },
): Command {
  return {
    help: helpText(spec),
    async run(argv, io) {
      const { values, positionals } = readArguments(spec, argv)
      const result = await spec.run(values, positionals, io)
      return typeof result === 'number' ? result : show(io, spec.name, values.json === true, result)
    },
  }
}

const ASKS = { admin: ADMIN_OPTION, config: CONFIG_OPTION, json: JSON_OPTION } as const
const CHANGES = { reason: REASON_OPTION, ...ASKS } as const

/** Help on which admin API is asked. */
const WHOSE: Readonly<Record<AskedParty, string>> = {
  store: `With store.redis in the configuration, the command asks the store. Without it, the command asks the running
gateway at admin.listen.`,
  gateway: 'The command asks the running gateway at admin.listen.',
  any: `The command asks the running gateway at admin.listen, which asks all others on its Redis. Where no gateway
runs on this machine, the command asks them through store.redis.`,
  reader: `The command asks the running gateway at admin.listen, which knows what the next request would get. Where no
gateway answers, or the token is missing, it asks the store (store.redis). Changes go to the store.`,
}

/**
 * Makes a command that asks an admin API. It takes `--admin`, `--config` and `--json`, and `--reason` if it `changes`
 * something. `run` checks the arguments and returns the question, which runs once the API is open.
 */
export function adminCommand<const O extends OptionSpecs>(
  spec: CommandSpec<O> & {
    readonly whose: AskedParty
    readonly changes?: boolean
    readonly run: Run<O & typeof CHANGES, (control: Control) => Promise<Result | number>>
    /** Returns true if these arguments change something in the store, which then is asked. */
    readonly writes?: (values: OptionValues<O>, positionals: readonly string[]) => boolean
  },
): Command {
  const { name, notes, whose, changes = false, writes } = spec
  return defineCommand<O & typeof CHANGES>({
    ...spec,
    tail: `${changes ? '[--reason TEXT] ' : ''}[--admin HOST:PORT | --config FILE] [--json]`,
    options: { ...spec.options, ...(changes ? CHANGES : ASKS) } as O & typeof CHANGES,
    notes: notes === undefined ? WHOSE[whose] : `${WHOSE[whose]}\n\n${notes}`,
    async run(values, positionals, io) {
      const ask = spec.run(values, positionals, io)
      const { config, admin, reason } = values as OptionValues<typeof CHANGES>
      const asked = writes?.(values, positionals) ? 'store' : whose
      return withControl(io, { config, admin, reason, whose: asked }, async (control) => {
        const result = await ask(control)
        return typeof result === 'number' ? result : show(io, name, values.json === true, result)
      })
    },
  })
}

function show(io: CommandIo, name: string, json: boolean, result: Result): number {
  const { data, text, code = 0, warning, aside = '' } = result
  const columns = columnsOf(io.stdout)
  if (json) printJson(io, data)
  else print(io, typeof text === 'string' ? wrapped(oneLine(text), 0, columns) : printable(text(columns)))
  if (!json && aside !== '') complain(io, printable(aside))
  if (warning !== undefined) complain(io, `tidegate ${name}: ${printable(warning)}`)
  return code
}
