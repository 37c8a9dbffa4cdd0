/** Starts children of the bench: pinned to a core, and gone when the bench ends. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'

const running = new Set()
const folders = []

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
  for (const made of folders) rmSync(made, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

/** Makes a folder that is removed when the bench ends. */
export function folder() {
  const made = mkdtempSync(path.join(os.tmpdir(), 'tidegate-bench-'))
  folders.push(made)
  return made
}

/** taskset replaces itself by the command, so the child's pid is the command's own. */
export function start(core, command, args, options = {}) {
  const child = spawn('taskset', ['-c', String(core), command, ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
    ...options,
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  child.once('error', () => running.delete(child))
  return child
}

/** Starts a Node child that sends `{ port }` when it listens. */
export async function startScript(core, script, args = [], node = process.execPath) {
  const child = start(core, node, [script, ...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const port = await Promise.race([
    once(child, 'message').then(([message]) => message.port),
    once(child, 'exit').then(([code]) =>
      Promise.reject(new Error(`${script} ended with ${code} before it listened`)),
    ),
  ])
  return { child, pid: child.pid, port }
}

export async function ask(child) {
  child.send({})
  const [answer] = await once(child, 'message')
  return answer
}

export async function stop(child, signal = 'SIGTERM') {
  if (!running.has(child)) return
  const ended = once(child, 'exit')
  child.kill(signal)
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(late)
}

export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Resolves with whether something accepts connections on a port of this machine. */
export async function accepts(port) {
  const socket = net.connect(port, '127.0.0.1')
  const opened = await once(socket, 'connect').then(
    () => true,
    () => false,
  )
  socket.destroy()
  return opened
}

export async function until(what, ms, test) {
  const end = performance.now() + ms
  for (;;) {
    const value = await test()
    if (value) return value
    if (performance.now() > end) throw new Error(`${what}: not so after ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
