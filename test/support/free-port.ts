import { once } from 'node:events'
import { createServer } from 'node:net'

/** Cluster nodes talk to each other on the port that is this far above their own. */
export const BUS = 10_000
/** Range of the ports: below those that systems give out by themselves, and so are the Cluster bus ports. */
const FIRST = 10_000
const COUNT = 10_000
/** Far from where a process begins that started a moment before or after. */
let next = process.pid * 97

/**
 * Returns a port on loopback where nobody listens. Nobody gets it by chance before it is used, or while its server is stopped: the system
 * gives out other ports, and our processes get each one once.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + (next++ % COUNT)
    const server = createServer().listen(port, '127.0.0.1')
    const free = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!free) continue
    server.close()
    await once(server, 'close')
    return port
  }
}
