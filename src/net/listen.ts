import { lookup } from 'node:dns/promises'
import type { AddressInfo, Server } from 'node:net'

/** Address and port as the configuration names them. */
interface Listen {
  readonly host: string
  readonly port: number
}

/**
 * Connections that may wait to be accepted. Node's default of 511 overflows when many clients come back at once. The kernel
 * allows as many as `net.core.somaxconn` at most.
 */
const BACKLOG = 4_096

/**
 * Listens on a configured address.
 *
 * @param key configuration key of the address
 * @param file configuration file
 * @throws Error whose message says what to do
 */
export async function listen(
  app: { listen(at: Listen & { readonly backlog: number }): Promise<unknown> },
  address: Listen,
  key: string,
  file: string,
): Promise<void> {
  try {
    // For a name with several addresses, Fastify would open a second server for the others, outside our control.
    const host = address.host === 'localhost' ? (await lookup('localhost')).address : address.host
    await app.listen({ host, port: address.port, backlog: BACKLOG })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const where = `${address.host}:${address.port} (${key} in ${file})`
    if (code === 'EADDRINUSE')
      throw new Error(`${where} is taken; stop what listens there, or set ${key} to another port`)
    if (code === 'EACCES') throw new Error(`this user may not bind ${where}; set ${key} to a port above 1023`)
    throw new Error(`cannot listen on ${where}: ${message}`)
  }
}

/** Returns the URL of an address that is bound. */
export function addressOf({ server }: { readonly server: Server }, scheme = 'http'): string {
  const { address, port, family } = server.address() as AddressInfo
  return `${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
