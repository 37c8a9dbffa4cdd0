/** Upstreams that misbehave on demand. */
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { Worker } from 'node:worker_threads'

/** Starts a backend; `serve` sets how it answers and may be replaced while it runs. */
export async function startBackend(serve = ok) {
  const sockets = new Set()
  const backend = { serve, requests: 0, complete: 0, port: 0 }
  let server
  const listen = async () => {
    server = http.createServer({ keepAliveTimeout: 60_000 }, (req, res) => {
      backend.requests++
      req.on('end', () => backend.complete++)
      req.on('error', () => {})
      res.on('error', () => {})
      backend.serve(req, res)
    })
    server.on('connection', (socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => sockets.delete(socket))
    })
    server.on('clientError', (_, socket) => socket.destroy())
    server.listen(backend.port, '127.0.0.1')
    await once(server, 'listening')
    backend.port = server.address().port
    backend.origin = `http://127.0.0.1:${backend.port}`
  }
  backend.start = listen
  /** Refuses connections from now on, and resets the open ones. */
  backend.stop = () => {
    server.close()
    for (const socket of sockets) socket.resetAndDestroy()
  }
  await listen()
  return backend
}

export function ok(req, res) {
  req.resume()
  res.end('ok')
}

export const after = (ms) => (req, res) => {
  req.resume()
  setTimeout(() => res.end('ok'), ms)
}

export function reset(req) {
  req.socket.resetAndDestroy()
}

export function silent() {}

export const status = (code) => (req, res) => {
  req.resume()
  res.statusCode = code
  res.end('no')
}

/** Sends a byte now and then, and never ends. */
export function trickle(_, res) {
  res.writeHead(200, { 'content-length': 1_000 })
  const timer = setInterval(() => res.write('x'), 100)
  res.on('close', () => clearInterval(timer))
}

/** Sends half of the announced body, then a FIN. */
export function half(_, res) {
  res.writeHead(200, { 'content-length': 100 })
  res.write('x'.repeat(50), () => res.socket?.end())
}

/** Answers well, and closes the idle connection a moment later without having announced it. */
export function forgetful(req, res) {
  const { socket } = req
  req.resume()
  res.end('ok', () => setTimeout(() => socket.destroy(), 1 + Math.random() * 4))
}

const STUCK = `
const { parentPort } = require('node:worker_threads')
const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 120_000), 20)
})`

/** Returns a port at which connections are neither accepted nor refused: its backlog is full. */
export async function hangingPort() {
  const worker = new Worker(STUCK, { eval: true })
  const [port] = await once(worker, 'message')
  await new Promise((resolve) => setTimeout(resolve, 100))
  const fillers = []
  for (let waiting = 0; waiting < 2; ) {
    const socket = net.connect(port, '127.0.0.1').on('error', () => {})
    fillers.push(socket)
    const connected = await new Promise((resolve) => {
      socket.once('connect', () => resolve(true))
      setTimeout(() => resolve(false), 300)
    })
    waiting = connected ? 0 : waiting + 1
  }
  return {
    origin: `http://127.0.0.1:${port}`,
    async close() {
      for (const socket of fillers) socket.destroy()
      await worker.terminate()
    },
  }
}
