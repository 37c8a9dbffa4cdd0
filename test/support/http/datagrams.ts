import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

/** Node has no Unix datagram sockets; Python has. */
const READER = `
import json, socket, sys
reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
reader.bind(sys.argv[1])
print(json.dumps("bound"), flush=True)
while True:
    print(json.dumps(reader.recv(4096).decode()), flush=True)
`

export const canReadDatagrams = spawnSync('python3', ['--version']).status === 0

export interface Datagrams {
  readonly path: string
  readonly got: readonly string[]
  /** Resolves with the next datagram that matches, after the last one that was taken. */
  next(pattern: RegExp): Promise<string>
}

/** Opens a real datagram socket, such as systemd has for its services. */
export async function readDatagrams(t: Test): Promise<Datagrams> {
  // Short: such a path may have 107 bytes.
  const path = `/tmp/tidegate-notify-${process.pid}-${count++}`
  const child = spawn('python3', ['-c', READER, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => {
    child.kill('SIGKILL')
    spawnSync('rm', ['-f', path])
  })
  const got: string[] = []
  let taken = 0
  let arrived = () => {}
  createInterface(child.stdout).on('line', (line) => {
    got.push(JSON.parse(line) as string)
    arrived()
  })
  async function next(pattern: RegExp): Promise<string> {
    for (;;) {
      while (taken < got.length) {
        const one = got[taken++]!
        if (pattern.test(one)) return one
      }
      await new Promise<void>((resolve) => {
        arrived = resolve
      })
    }
  }
  await next(/^bound$/)
  return { path, got, next }
}

let count = 0
