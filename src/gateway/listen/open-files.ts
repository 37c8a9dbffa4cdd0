import { readFileSync } from 'node:fs'
import type { Config } from '../../config/schema/schema.js'
import { quarter } from '../../shares.js'

/** What the process needs besides connections: listeners, the store, logs, the modules that it still loads. */
const OTHERS = 200

/** How many files and sockets this process may have open; undefined where the system does not say. */
function openFileLimit(): number | undefined {
  try {
    const soft = /^Max open files +([0-9]+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    return undefined
  }
}

/**
 * How many connections of clients there may be, so that each finds a socket to its upstream: a process that has run out
 * of them answers nobody.
 */
export function connectionCap(wanted: number, files = openFileLimit()): number {
  if (files === undefined) return wanted
  return Math.min(wanted, Math.max(1, Math.floor((files - OTHERS) / 2), Math.floor(files / 4)))
}

/**
 * Returns how many connections one client may have, 0: any number. Where files allow fewer than the configuration, it is a
 * quarter of those at most, or the bound of one would be above that of all.
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
