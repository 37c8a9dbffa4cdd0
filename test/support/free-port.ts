import { once } from 'node:events'
import { createServer } from 'node:net'

/** Cluster nodes talk to each other on the port so far above their own. */
export const BUS = 10_000
/** Of the ports given: below those that systems give out by themselves, and so are those of the buses. */
const FIRST = 10_000
const COUNT = 10_000
/** Far from where a process begins that was started a moment before or after. */
let next = process.pid * 97

/**
 * A port on loopback where nobody listens. Nobody gets it by chance before it is used, or while what listens there is stopped:
 * the system gives out others, and a process of ours gets each one once.
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
