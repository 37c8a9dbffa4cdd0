import { type Client, load, run } from './run-script.js'

/** Typed access to the scripts of the maps that every gateway holds whole. The top of each file in lua/ describes it. */

const put = load('put')
const restore = load('restore')
const sweep = load('sweep')
const touch = load('touch')

/** Change of a map that every node holds whole. */
export interface Put {
  readonly key: string
  /** Empty to remove the value. */
  readonly value: string
  readonly channel: string
  readonly logLength: number
  /** Unix ms at which the value ends; 0 for never. */
  readonly until: number
  /** Maximum number of values. */
  readonly most: number
  /** Condition for the change; empty for none. */
  readonly only: 'present' | 'absent' | ''
}

/**
 * Changes a map.
 *
 * @param map key of the hash. The other keys are derived from it.
 * @returns the number of the change; 0 if the condition does not hold; -1 if the map is full
 */
export function runPut(client: Client, map: string, change: Put): Promise<number> {
  const { key, value, channel, logLength, until, most, only } = change
  const keys = [map, `${map}:version`, `${map}:log`, `${map}:ends`]
  const args = [key, value, channel, String(logLength), String(until), String(most), only]
  return run(client, put, keys, args) as Promise<number>
}

/** Stored value of such a map. */
export interface StoredValue {
  readonly key: string
  /** Empty for none. */
  readonly text: string
  /** Unix ms at which it ends; 0 for never. */
  readonly until: number
}

/**
 * Writes values of such a map as a node knows them.
 *
 * @param version number that the map must have
 * @param next number that it has afterwards
 * @param values at most 300
 * @returns true if the map had that number; otherwise nothing is written
 */
export async function runRestore(
  client: Client,
  map: string,
  version: number,
  next: number,
  values: readonly StoredValue[],
): Promise<boolean> {
  const keys = [map, `${map}:version`, `${map}:ends`]
  const args = values.flatMap(({ key, text, until }) => [key, text, String(until)])
  return (await run(client, restore, keys, [String(version), String(next), ...args])) === 1
}

/**
 * Removes ended values from such a map.
 *
 * @param now unix ms
 * @param most 1 to 1000
 * @returns the number of values removed
 */
export function runSweep(client: Client, map: string, now: number, most: number): Promise<number> {
  return run(client, sweep, [map, `${map}:ends`], [String(now), String(most)]) as Promise<number>
}

/**
 * Records when keys of such a map were last used.
 *
 * @param minute unix time in minutes
 * @param before unix minute up to which uses are forgotten
 * @returns how many of them are keys of the map
 */
export function runTouch(
  client: Client,
  map: string,
  used: readonly string[],
  minute: number,
  before: number,
): Promise<number> {
  const args = [String(minute), String(before), ...used]
  return run(client, touch, [map, `${map}:used`], args) as Promise<number>
}
