import { HEARTBEAT_KEYS } from './heartbeat.js'
import { type Client, load, run } from './run-script.js'

/** Typed access to the scripts of the maps that every gateway holds whole. The top of each file in lua/ describes it. */

const layout = load('layout')
const put = load('put')
const restore = load('restore')
const sweep = load('sweep')
const touch = load('touch')

/** Stored value of such a map. */
export interface StoredValue {
  readonly key: string
  /** Empty for none. */
  readonly text: string
  /** Unix ms at which it ends; 0 for never. */
  readonly until: number
}

/** How a map is changed. */
export interface Put {
  readonly channel: string
  readonly logLength: number
  /** Maximum number of values. */
  readonly most: number
  /** Condition for the change; empty for none. */
  readonly only: 'present' | 'absent' | ''
}

/**
 * Changes values of a map, all or none.
 *
 * @param map key of the hash. The other keys are derived from it.
 * @param values 1 to 300
 * @returns the number of the last of these changes; 0 if the condition does not hold; -1 if the map is full; -2 while it takes no changes
 */
export function runPut(
  client: Client,
  map: string,
  values: readonly StoredValue[],
  how: Put,
): Promise<number> {
  const { channel, logLength, most, only } = how
  const keys = [map, `${map}:version`, `${map}:log`, `${map}:ends`]
  const args = [channel, String(logLength), String(most), only, ...argsOf(values)]
  return run(client, put, keys, args) as Promise<number>
}

const argsOf = (values: readonly StoredValue[]) =>
  values.flatMap(({ key, text, until }) => [key, text, String(until)])

/**
 * Writes values of such a map as a node knows them.
 *
 * @param version what the map must have as its version
 * @param next what it has afterwards
 * @param values at most 300
 * @returns true if the map had that version; otherwise nothing is written
 */
export async function runRestore(
  client: Client,
  map: string,
  version: number | string,
  next: number | string,
  values: readonly StoredValue[],
): Promise<boolean> {
  const keys = [map, `${map}:version`, `${map}:ends`]
  return (await run(client, restore, keys, [String(version), String(next), ...argsOf(values)])) === 1
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

/**
 * Writes the layout of the maps that grow with users, unless the store has one of at least as many moves.
 *
 * @returns the layout that is there
 */
export async function runLayout(client: Client, text: string): Promise<string> {
  return String(await run(client, layout, [HEARTBEAT_KEYS.layout], [text]))
}
