import cluster from 'node:cluster'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { chmod, lstat, unlink } from 'node:fs/promises'
import { type AddressInfo, createConnection, type Server } from 'node:net'
import { networkInterfaces } from 'node:os'
import { formatListen, type ListenAddress, type UnixAddress } from './addresses.js'

/**
 * Connections that may wait to be accepted. Node's default of 511 overflows when many clients come back at once. The kernel
 * allows as many as `net.core.somaxconn` at most.
 */
const BACKLOG = 4_096

/** Listener: a Fastify app, or a server made into one by `listening`. */
type Listener = ReturnType<typeof listening>

/**
 * Listens on a configured address. Replaces the file of a unix socket on which nobody listens any more.
 *
 * @param key configuration key of the address
 * @param file configuration file
 * @throws Error whose message says what to do
 */
export async function listen(
  app: Listener,
  address: ListenAddress | UnixAddress,
  key: string,
  file: string,
): Promise<void> {
  const isUnix = 'path' in address
  try {
    if (isUnix) {
      await removeStale(address.path)
      await app.listen({ path: address.path, backlog: BACKLOG })
      await chmod(address.path, address.mode)
    } else {
      await app.listen({ host: await boundHost(address.host), port: address.port, backlog: BACKLOG })
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const where = `${isUnix ? address.path : `${address.host}:${address.port}`} (${key} in ${file})`
    if (code === 'EADDRINUSE')
      throw new Error(
        `${where} is taken; stop what listens there, or set ${key} to another ${isUnix ? 'path' : 'port'}`,
      )
    if (code === 'EACCES') {
      const fix = isUnix ? 'let it write in that folder' : `set ${key} to a port above 1023`
      throw new Error(`this user may not bind ${where}; ${fix}`)
    }
    throw new Error(`cannot listen on ${where}: ${message}`)
  }
}

/** Returns the address to bind for a host. Without IPv6 on this machine, all addresses are those of IPv4. */
async function boundHost(host: string): Promise<string> {
  // For a name with several addresses, Fastify would open a second server for the others, outside our control.
  if (host === 'localhost') return (await lookup('localhost')).address
  const has6 = () =>
    Object.values(networkInterfaces()).some((all) => all?.some(({ family }) => family === 'IPv6'))
  return host === '::' && !has6() ? '0.0.0.0' : host
}

/** Removes the file of a socket that a killed process has left. A worker shares the socket of its primary, which has looked. */
async function removeStale(path: string): Promise<void> {
  if (cluster.isWorker) return
  const found = await lstat(path).catch(() => undefined)
  if (found?.isSocket() !== true) return
  const client = createConnection(path)
  try {
    await once(client, 'connect')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') await unlink(path)
  } finally {
    client.destroy()
  }
}

/** Returns a server as something that `listen` can bind. */
export function listening(server: Server) {
  return {
    listen: (at: {
      host?: string
      port?: number
      path?: string
      readonly backlog: number
    }): Promise<unknown> =>
      new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(at, () => {
          server.off('error', reject)
          resolve()
        })
      }),
  }
}

/** Returns the URL of an address that is bound; of a unix socket, its path behind `unix:`. */
export function addressOf({ server }: { readonly server: Server }, scheme = 'http'): string {
  const bound = server.address() as AddressInfo | string
  if (typeof bound === 'string') return `unix:${bound}`
  return `${scheme}://${formatListen({ host: bound.address, port: bound.port })}`
}
