import { readFileSync } from 'node:fs'
import type { Config } from '../../config/schema/schema.js'
import { quarter } from '../../shares.js'

/** Files that the process needs besides connections: listeners, the store, logs, modules that it still loads. */
const OTHERS = 200

/** Returns how many files and sockets this process may open; undefined where the system does not say. */
function openFileLimit(): number | undefined {
  try {
    const soft = /^Max open files +([0-9]+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    return undefined
  }
}

/**
 * Returns how many client connections the gateway accepts, so that each finds a socket to its upstream. A process that runs
 * out of sockets can answer nobody.
 */
export function connectionCap(wanted: number, files = openFileLimit()): number {
  if (files === undefined) return wanted
  return Math.min(wanted, Math.max(1, Math.floor((files - OTHERS) / 2), Math.floor(files / 4)))
}

/**
 * Returns how many connections one client may have; 0 is any number. If the file limit is below the configured maximum, one
 * client gets a quarter of it at most: otherwise the limit per client would exceed the total.
 *
 * @param most connections of all clients
 */
export function clientCap(
  {
    max_connections,
    max_connections_per_client,
  }: Pick<Config['server'], 'max_connections' | 'max_connections_per_client'>,
  most: number,
): number {
  return most < max_connections
    ? Math.min(max_connections_per_client, quarter(most))
    : max_connections_per_client
}
