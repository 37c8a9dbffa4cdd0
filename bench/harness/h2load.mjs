import { once } from 'node:events'
import { LOAD_CORE } from './machine.mjs'
import { start } from './process.mjs'

/**
 * Runs h2load once over HTTP/2, with one thread, one consumer and one path: it can rotate neither with a header. Resolves with what
 * `wrk` does, but for latencies.
 */
export async function h2load({ url, connections, streams, seconds }) {
  const args = [
    '-t1',
    `-c${connections}`,
    `-m${streams}`,
    `-D${seconds}`,
    '-HX-User-Id: user-000001',
    '-HAccept: application/json',
    `${url}/orders/1`,
  ]
  const child = start(LOAD_CORE, 'h2load', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  await once(child, 'close')
  const done = /finished in ([\d.]+)(m?s), /.exec(out)
  const requests = /requests: .*, (\d+) done, (\d+) succeeded, \d+ failed, (\d+) errored, (\d+) timeout/.exec(
    out,
  )
  if (done === null || requests === null) throw new Error(`h2load gave no figures:\n${out}`)
  const [answered, succeeded, errored, late] = requests.slice(1).map(Number)
  return {
    requests: answered,
    seconds: Number(done[1]) / (done[2] === 'ms' ? 1000 : 1),
    refused: answered - succeeded,
    broken: errored + late,
    p50: Number.NaN,
    p99: Number.NaN,
  }
}
