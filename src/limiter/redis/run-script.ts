import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Cluster, Command, type Redis } from 'ioredis'
import { bulk } from './script-arguments.js'

/** Loads the Lua files of lua/ and runs them. */

/** Client that runs a script: a connection, or a Cluster that finds the node by the first key. */
export type Client = Redis | Cluster

export interface Script {
  readonly source: string
  readonly sha: string
}

/** Loads a script, which may consist of several files. */
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

/**
 * Sends EVALSHA, then EVAL once if the server does not have the script. NOSCRIPT means that nothing has run, so this
 * can't charge twice. The caller handles every other error, and nothing is sent again.
 *
 * @param rest everything after the script, for the wire: number of keys, keys, arguments
 * @param count number of these arguments
 */
export function runWritten(
  client: Client,
  script: Script,
  key: string | undefined,
  rest: string,
  count: number,
): Promise<unknown> {
  const head = `*${count + 2}\r\n`
  const command = new ReadyCommand('evalsha', key, `${head}${EVALSHA}${bulk(script.sha)}${rest}`)
  client.sendCommand(command)
  return command.promise.catch((error: unknown) => {
    if (!isNoScript(error)) throw error
    const again = new ReadyCommand(
      'eval',
      key,
      `${head}${EVAL}$${Buffer.byteLength(script.source)}\r\n${script.source}\r\n${rest}`,
    )
    client.sendCommand(again)
    return again.promise
  })
}

const EVALSHA = bulk('evalsha')
const EVAL = bulk('eval')

function isNoScript(error: unknown): boolean {
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
