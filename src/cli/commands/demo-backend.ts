import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { formatListen } from '../../net/addresses.js'
import { hostAndPort, Refused } from '../command.js'
import { defineCommand } from '../define-command.js'
import { print } from '../print/terminal.js'
import { stopSignal } from '../stop-signal.js'

export const command = defineCommand({
  name: 'demo-backend',
  usage: ['[--listen HOST:PORT] [--name NAME]'],
  about: `Runs a backend that answers every request with what it received, as JSON, until SIGTERM or Ctrl-C. Put a gateway
in front of it while you have no real service yet.`,
  options: {
    listen: { value: 'HOST:PORT', short: 'l', help: 'by default 127.0.0.1:9001' },
    name: { value: 'NAME', short: 'n', help: 'its name in the answers; by default upstream' },
  },
  async run({ listen = '127.0.0.1:9001', name = 'upstream' }, _, io) {
    const at = hostAndPort('--listen', listen, '0.0.0.0:9001')
    const stopped = stopSignal()
    const backend = await startDemoBackend(name, `http://${formatListen(at)}`)
    print(io, `${name} answers on ${backend.address}`)
    await stopped
    await backend.close()
    return 0
  },
})

export interface DemoBackend {
  readonly service: string
  /** `http://host:port` as bound. */
  readonly address: string
  close(): Promise<void>
}

/**
 * Headers that help the author of a backend: those that gateways write and that identify clients, not everything that a
 * browser sends.
 */
const SHOWN_HEADERS = [
  'host',
  'x-api-key',
  'x-user-id',
  'x-consumer-id',
  'x-consumer-tier',
  'x-consumer-tenant',
  'x-tidegate-identity',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-request-id',
  'via',
  'content-type',
]
/** Bytes of a body that are sent back. The rest is read and counted. */
const MAX_ECHO = 4096

/**
 * Starts a backend that answers every request with its content, as JSON. `origin`: `http://host:port` on this machine.
 * Rejects with one line for the operator.
 */
export function startDemoBackend(service: string, origin: string): Promise<DemoBackend> {
  const { hostname, port } = new URL(origin)
  const server = createServer((request, response) => answer(service, request, response))
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new Refused(cannotListen(service, origin, error))),
    )
    server.listen(Number(port || 80), hostname.replace(/^\[|\]$/g, ''), () => {
      resolve({
        service,
        address: `http://${hostname}:${(server.address() as AddressInfo).port}`,
        close: () =>
          new Promise((closed) => {
            server.close(() => closed())
            server.closeAllConnections()
          }),
      })
    })
  })
}

function cannotListen(service: string, origin: string, error: NodeJS.ErrnoException): string {
  const { host, port } = new URL(origin)
  if (error.code === 'EADDRINUSE') {
    return `port ${port} is taken, and the ${service} demo backend needs it; stop what listens there`
  }
  return `the ${service} demo backend cannot listen on ${host} (${error.code}); its address must be one of this machine`
}

function answer(service: string, request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = []
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    if (bytes < MAX_ECHO) chunks.push(chunk.subarray(0, MAX_ECHO - bytes))
    bytes += chunk.length
  })
  request.on('end', () => {
    const headers: Record<string, unknown> = {}
    for (const name of SHOWN_HEADERS) {
      if (request.headers[name] !== undefined) headers[name] = request.headers[name]
    }
    const body = bytes === 0 ? {} : { body: Buffer.concat(chunks).toString('utf8'), body_bytes: bytes }
    const text = `${JSON.stringify({ service, method: request.method, path: request.url, headers, ...body }, null, 2)}\n`
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    response.end(text)
  })
}
