/** First release of each supported line without a known vulnerability that reaches a gateway. */
const FLOORS: Readonly<Record<number, readonly [minor: number, patch: number]>> = {
  22: [23, 2],
  24: [18, 1],
  26: [5, 1],
}
const NEWEST_KNOWN = 26

const list = Object.entries(FLOORS)
  .map(([major, [minor, patch]]) => `${major}.${minor}.${patch}`)
  .join(', ')

/**
 * Returns one line if this Node should not face the internet, otherwise undefined. `version`: as in
 * process.versions.node.
 */
export function nodeWarning(version: string): string | undefined {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map((part) => Number.parseInt(part, 10))
  if (major > NEWEST_KNOWN) return undefined
  const floor = FLOORS[major]
  if (floor === undefined)
    return `Node ${version} gets no security fixes; run Tidegate on Node ${list} or later`
  if (minor > floor[0] || (minor === floor[0] && patch >= floor[1])) return undefined
  return `Node ${version} has known security holes; update it to ${major}.${floor.join('.')} or later`
}

const LAX = '--insecure-http-parser'

/**
 * Returns why this Node must not serve at all, otherwise undefined. With the flag, parts of Node that take no option
 * (such as the client that makes WebSocket handshakes) accept messages that no two servers read alike.
 */
export function laxParser(execArgv: readonly string[], nodeOptions = ''): string | undefined {
  if (!execArgv.includes(LAX) && !nodeOptions.split(/\s+/).includes(LAX)) return undefined
  return `Node runs with ${LAX}, which allows request smuggling; start without it`
}
