import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { within } from '../within.js'
import { commandReader } from './redis-commands.js'

/** The part of a tap test that cleans up after it. */
interface Cleanup {
  teardown(fn: () => unknown): unknown
}

const honest = () => `*1\r\n:${Date.now()}\r\n`

/** Starts a server that speaks enough of Redis to be believed, and answers decisions as told. */
export async function lyingRedis(t: Cleanup) {
  let answer = ''
  let time = honest
  let probed = () => {}
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    const read = commandReader()
    socket.on('data', (data) => {
      for (const command of read(data)) socket.write(answerTo(command), 'latin1')
    })
  })
  function answerTo([name = '', , keys]: readonly string[]): string {
    if (/^info$/i.test(name)) return '$19\r\nredis_version:7.4.0\r\n'
    if (!/^eval(?:sha)?$/i.test(name)) return '+OK\r\n'
    if (keys !== '0') return answer
    queueMicrotask(probed)
    return time()
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `redis://127.0.0.1:${port}`,
    say(next: string) {
      answer = next
    },
    /** Its one reply to a health check. */
    async misleads(next: string): Promise<void> {
      time = () => next
      for (const socket of sockets) socket.destroy()
      const asked = new Promise<void>((resolve) => {
        probed = resolve
      })
      await within(5000, 'a probe', asked)
      await new Promise((resolve) => setTimeout(resolve, 5))
      time = honest
    },
  }
}
