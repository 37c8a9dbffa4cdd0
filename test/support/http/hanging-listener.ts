import { connect, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import type { Test } from 'tap'
import { freePort } from '../free-port.js'

// Listens, says where, and stops before it could accept a connection: none is ever taken out of the backlog.
const STUCK = `
const { parentPort } = require('node:worker_threads')
const { createServer } = require('node:net')
const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600_000)
})`

/**
 * A port on loopback at which connections are neither made nor refused: its backlog is full and nobody takes anything
 * out of it.
 */
export async function hangingListener(t: Test): Promise<{ port: number; origin: string }> {
  const worker = new Worker(STUCK, { eval: true })
  const port = await new Promise<number>((resolve) => worker.once('message', resolve))
  const fillers: Socket[] = []
  t.teardown(async () => {
    for (const socket of fillers) socket.destroy()
    await worker.terminate()
  })
  // On a busy machine a connection may just be slow: only several in a row that wait long mean a full backlog.
  for (let waiting = 0; ; ) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    fillers.push(socket)
    const connected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true))
      // The process may have stood still for so long: what has come meanwhile is read before it is looked at.
      setTimeout(() => setImmediate(() => resolve(!socket.connecting)), 300)
    })
    waiting = connected ? 0 : waiting + 1
    if (waiting === 2) return { port, origin: `http://127.0.0.1:${port}` }
    if (fillers.length > 64) throw new Error('the backlog does not fill up')
  }
}

/** A port that refuses connections. */
export async function refusingPort(): Promise<{ port: number; origin: string }> {
  const port = await freePort()
  return { port, origin: `http://127.0.0.1:${port}` }
}
