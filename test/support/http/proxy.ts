import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

/** A TCP proxy on loopback that does to a connection what networks do. */
export interface TcpProxy {
  readonly port: number
  /** Delay of everything towards the server, in ms. */
  delayThere: number
  /** Delay of everything on the way back, in ms. */
  delayBack: number
  /** Lets the next request through, and cuts the connection when the server answers it. */
  cutNextReply(): void
  /** Connections accepted so far. */
  readonly accepted: number
}

export async function startProxy(t: Cleanup, targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  let cut = false
  const proxy = {
    port: 0,
    delayThere: 0,
    delayBack: 0,
    accepted: 0,
    cutNextReply() {
      cut = true
    },
  }
  const server = createServer((near) => {
    proxy.accepted++
    const far = connect(targetPort, '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.setNoDelay()
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
    near.on('data', (data) => later(proxy.delayThere, () => far.write(data)))
    far.on('data', (data) => {
      if (cut) {
        cut = false
        near.destroy()
      } else later(proxy.delayBack, () => near.write(data))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  proxy.port = (server.address() as AddressInfo).port
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return proxy
}

function later(ms: number, then: () => void): void {
  if (ms === 0) then()
  else setTimeout(then, ms)
}
