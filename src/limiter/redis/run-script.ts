import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Cluster, Command, type Redis } from './ioredis.js'
import { bulk } from './script-arguments.js'

/** Loads the Lua files of lua/ and runs them. */

/** Client that runs a script: a connection, or a Cluster that finds the node by the first key. */
export type Client = Redis | Cluster

export interface Script {
  readonly source: string
  readonly sha: string
}

/** Loads a script, which may consist of several files. They are ASCII. */
export function load(...names: readonly string[]): Script {
  const texts = names.map((name) =>
    readFileSync(new URL(`../../../lua/${name}.lua`, import.meta.url), 'utf8'),
  )
  const source = texts.join('\n')
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

/**
 * Command whose bytes are ready. ioredis would walk over all arguments five times. At 64 decisions a call, that is a
 * quarter of the cost of a decision.
 */
class ReadyCommand extends Command {
  readonly #wire: string

  /**
   * Creates a command.
   *
   * @param key finds the node in a Cluster
   */
  constructor(name: string, key: string | undefined, wire: string) {
    super(name, key === undefined ? [] : ['', '1', key])
    this.#wire = wire
  }

  override toWritable(): string {
    return this.#wire
  }
}

/** Call of a script, ready for the wire. */
export interface ScriptCall {
  readonly script: Script
  /** First key, which finds the node in a Cluster; undefined if there is none. */
  readonly key: string | undefined
  /** Everything after the script, for the wire: number of keys, keys, arguments. */
  readonly rest: string
  /** Number of these arguments. */
  readonly count: number
}

const EVALSHA = bulk('evalsha')
const EVAL = bulk('eval')

/** Writes the call as EVALSHA. */
export function evalshaOf({ script, rest, count }: ScriptCall): string {
  return `*${count + 2}\r\n${EVALSHA}${bulk(script.sha)}${rest}`
}

/** Writes the call as EVAL, for a server that does not have the script. */
export function evalOf({ script, rest, count }: ScriptCall): string {
  return `*${count + 2}\r\n${EVAL}${bulk(script.source)}${rest}`
}

/**
 * Sends EVALSHA through ioredis, then EVAL once if the server does not have the script. NOSCRIPT means that nothing has
 * run, so this can't charge twice. The caller handles every other error, and nothing is sent again.
 */
export function runCall(client: Client, call: ScriptCall): Promise<unknown> {
  const command = new ReadyCommand('evalsha', call.key, evalshaOf(call))
  client.sendCommand(command)
  return command.promise.catch((error: unknown) => {
    if (!isNoScript(error)) throw error
    const again = new ReadyCommand('eval', call.key, evalOf(call))
    client.sendCommand(again)
    return again.promise
  })
}

export function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}

/** Does the same for scripts that run rarely. */
export async function run(client: Client, script: Script, keys: readonly string[], args: readonly string[]) {
  const rest = [keys.length, ...keys, ...args]
  try {
    return await client.callBuffer('evalsha', script.sha, ...rest)
  } catch (error) {
    if (!isNoScript(error)) throw error
    return await client.callBuffer('eval', script.source, ...rest)
  }
}
