import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { eventually } from '../eventually.js'
import { freePort } from '../free-port.js'
import { killAtExit } from '../kill-at-exit.js'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export interface TestPostgres {
  readonly url: string
  readonly port: number
  /** A connection to look behind the scenes. */
  query(sql: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>
  /** Kills the server at once, as in a crash. */
  stop(): Promise<void>
  /** Starts it again on the same port, with the same data. */
  restart(): Promise<void>
  /** Stops all its processes with SIGSTOP: connections stay open, nothing is answered. */
  pause(): void
  resume(): void
}

/** Folder of the server's programs: Debian keeps them off the PATH. */
function programs(): string | undefined {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const places = [
    ...versions.map((version) => join(debian, version, 'bin')),
    ...(process.env.PATH ?? '').split(':'),
  ]
  return places.find((place) => existsSync(join(place, 'initdb')))
}
const bin = programs()

/** Reason to skip tests that need a server; false if there is one. */
export const noPostgres = bin === undefined && 'no PostgreSQL server: apt-get install -y postgresql'

/** The server refuses to run as root. The id of `nobody` is known everywhere. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

/**
 * Starts a real server with an empty database, and removes it at the end of the test.
 *
 * @param tls files of a certificate, for clients that want TLS
 */
export async function startPostgres(
  t: Cleanup,
  tls?: { readonly cert: string; readonly key: string },
): Promise<TestPostgres> {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-postgres-'))
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const run = { ...user, cwd: folder, stdio: 'ignore' } as const
  execFileSync(
    join(bin!, 'initdb'),
    ['-D', data, '-U', 'tidegate', '-A', 'trust', '-E', 'UTF8', '--no-sync', '--no-instructions'],
    run,
  )
  const port = await freePort()
  const settings = [
    'fsync=off',
    'listen_addresses=127.0.0.1',
    `port=${port}`,
    'unix_socket_directories=',
    'max_connections=30',
    'shared_buffers=1MB',
  ]
  if (tls !== undefined) {
    settings.push(
      'ssl=on',
      ...(['cert', 'key'] as const).map((name) => `ssl_${name}_file=${ownFile(tls[name], name)}`),
    )
  }
  /** The server refuses a key that others may read. */
  function ownFile(file: string, name: string): string {
    const own = join(folder, name)
    copyFileSync(file, own)
    chmodSync(own, 0o600)
    if (user.uid !== undefined) chownSync(own, user.uid, user.gid)
    return own
  }
  const url = `postgres://tidegate@127.0.0.1:${port}/postgres`

  let server = start()
  function start(): ChildProcess {
    const child = spawn(join(bin!, 'postgres'), ['-D', data, ...settings.flatMap((one) => ['-c', one])], run)
    killAtExit(child, 'SIGQUIT')
    return child
  }
  async function stop(): Promise<void> {
    if (server.exitCode !== null || server.signalCode !== null) return
    const exit = once(server, 'exit')
    server.kill('SIGCONT')
    server.kill('SIGQUIT')
    await exit
  }
  async function query(sql: string, values: readonly unknown[] = []): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query(sql, [...values])).rows
    } finally {
      await client.end()
    }
  }
  const ready = () =>
    eventually(
      'PostgreSQL answers',
      () =>
        query('SELECT 1').then(
          () => true,
          () => false,
        ),
      20_000,
    )
  t.teardown(async () => {
    await stop()
    rmSync(folder, { recursive: true, force: true })
  })
  await ready()
  /** Signals the server, so that it forks no more, then its children, one a connection. Some end meanwhile. */
  const signal = (name: NodeJS.Signals) => {
    process.kill(server.pid!, name)
    for (const pid of childrenOf(server.pid!)) {
      try {
        process.kill(pid, name)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
  }
  return {
    url,
    port,
    query,
    stop,
    async restart() {
      server = start()
      await ready()
    },
    pause: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
  }
}

/** Read from /proc: every connection has a process of its own, in a group of its own. */
function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        // pid (name) state parent …
        return (
          readFileSync(`/proc/${pid}/stat`, 'utf8')
            .replace(/^.*\) /, '')
            .split(' ')[1] === String(parent)
        )
      } catch {
        return false
      }
    })
    .map(Number)
}
