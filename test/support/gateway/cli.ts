import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { Readable, Writable } from 'node:stream'
import { runCli } from '../../../src/cli/run-cli.js'
import { CLI } from './process.js'

export interface CliResult {
  /** The exit code, or the name of the signal that ended it. */
  readonly code: number | string
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Text on its standard input; empty by default. */
  readonly stdin?: string
  /** Columns of the terminal it prints on; without it there is no terminal. */
  readonly columns?: number
}

/** Runs a command line to its end in this process, where it takes milliseconds. */
export async function tidegate(
  args: readonly string[],
  { cwd = process.cwd(), env, stdin = '', columns }: CliOptions = {},
): Promise<CliResult> {
  const stdout = textStream()
  if (columns !== undefined) Object.assign(stdout.stream, { isTTY: true, columns })
  const stderr = textStream()
  const code = await runCli(args, {
    stdin: Readable.from([Buffer.from(stdin)]),
    stdout: stdout.stream,
    stderr: stderr.stream,
    env: { ...process.env, ...env },
    cwd,
  })
  return { code, stdout: stdout.text(), stderr: stderr.text() }
}

function textStream() {
  const chunks: Buffer[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk)
      done()
    },
  })
  return { stream, text: () => Buffer.concat(chunks).toString('utf8') }
}

/** Runs the built command to its end in a process of its own: for pipes, signals and its exit, and for `start` and `demo`. */
export async function tidegateProcess(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const run = spawnCli(args, options)
  const code = await run.exited
  return { code, stdout: run.stdout(), stderr: run.stderr() }
}

/** Starts the built command and leaves it running. */
export function spawnCli(args: readonly string[], { cwd, env, stdin }: CliOptions = {}) {
  if (!existsSync(CLI)) throw new Error('dist/ is missing: run `npm run build` first (npm test does)')
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...process.env, ...env },
    stdio: [stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(cwd === undefined ? {} : { cwd }),
  })
  let stdout = ''
  let stderr = ''
  let changed = () => {}
  const collect = (stream: NodeJS.ReadableStream, add: (text: string) => void) => {
    stream.setEncoding('utf8')
    stream.on('data', (text: string) => {
      add(text)
      changed()
    })
  }
  child.stdin?.end(stdin)
  collect(child.stdout!, (text) => {
    stdout += text
  })
  collect(child.stderr!, (text) => {
    stderr += text
  })
  const exited = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string)
  return {
    child,
    exited,
    stdout: () => stdout,
    stderr: () => stderr,
    /** Resolves when the output contains the pattern; rejects if the process ends before. */
    printed(pattern: RegExp): Promise<void> {
      return new Promise((resolve, reject) => {
        const look = () => {
          if (pattern.test(stdout) || pattern.test(stderr)) resolve()
        }
        changed = look
        look()
        exited.then((code) => reject(new Error(`ended with ${code} before ${pattern}: ${stdout}${stderr}`)))
      })
    },
  }
}
