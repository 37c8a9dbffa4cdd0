import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { LOAD_CORE } from './machine.mjs'
import { start } from './process.mjs'

const script = fileURLToPath(new URL('rotate.lua', import.meta.url))

/**
 * Runs wrk once in a closed loop, with one thread. `tail` ends a path, with a %d for the number of the request; `routes` puts /r0
 * to /rN-1 before that, and `upload` sends a body of that many bytes.
 */
export async function wrk({
  url,
  connections,
  seconds,
  consumers,
  tail = 'orders/%d',
  routes = 0,
  upload = 0,
}) {
  const child = start(
    LOAD_CORE,
    'wrk',
    ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', '-s', script, url],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        BENCH_CONSUMERS: String(consumers),
        BENCH_TAIL: tail,
        BENCH_ROUTES: String(routes),
        BENCH_UPLOAD: String(upload),
      },
    },
  )
  let out = ''
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  await once(child, 'close')
  const line = /^BENCH (.+)$/m.exec(out)
  if (!line) throw new Error(`wrk gave no figures:\n${out}`)
  return JSON.parse(line[1])
}
