import { connect, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import type { Test } from 'tap'
import { freePort } from '../free-port.js'

// Listens, prints its port, and stops before it could accept a connection, so none ever leaves the backlog.
const STUCK = `
const { parentPort } = require('node:worker_threads')
const { createServer } = require('node:net')
const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600_000)
})`

/** Returns a port on loopback at which connections are neither accepted nor refused: its backlog is full, and nothing leaves it. */
export async function hangingListener(t: Test): Promise<{ port: number; origin: string }> {
  const worker = new Worker(STUCK, { eval: true })
  const port = await new Promise<number>((resolve) => worker.once('message', resolve))
  const fillers: Socket[] = []
  t.teardown(async () => {
    for (const socket of fillers) socket.destroy()
    await worker.terminate()
  })
  // On a busy machine one connection may just be slow: only several slow ones in a row mean a full backlog.
  for (let waiting = 0; ; ) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    fillers.push(socket)
    const connected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true))
      // The process itself may have stood still: it first reads what has come meanwhile.
      setTimeout(() => setImmediate(() => resolve(!socket.connecting)), 300)
    })
    waiting = connected ? 0 : waiting + 1
    if (waiting === 2) return { port, origin: `http://127.0.0.1:${port}` }
    if (fillers.length > 64) throw new Error('the backlog does not fill up')
  }
}

/** Returns a port that refuses connections. */
export async function refusingPort(): Promise<{ port: number; origin: string }> {
  const port = await freePort()
  return { port, origin: `http://127.0.0.1:${port}` }
}
