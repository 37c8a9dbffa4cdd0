/** `npm run bench -- traces`: measures what traces add to the CPU of a request, gateway beside gateway in interleaved rounds. */
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { OPEN_LIMIT, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import {
  cpuMs,
  GATEWAY_CORE,
  LOAD_CORE,
  pinSelf,
  requireTools,
  shape,
  watchCore,
} from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { ask, folder, startScript, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { median, printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

/** Greatest cost of a request that is not recorded, in µs. */
const MOST = 1

const script = (name) => fileURLToPath(new URL(name, import.meta.url))

export async function traces({ rounds, seconds, warmup }) {
  requireTools({ wrk: true })
  pinSelf()
  const dir = folder()
  const store = await startStore()
  const upstream = await startUpstream()
  const collector = await startScript(LOAD_CORE, script('../contenders/collector.mjs'))
  console.log(shape(store.version))
  const url = `http://127.0.0.1:${collector.port}/v1/traces`
  const settings = {
    off: undefined,
    'sample: 0': `{ url: "${url}", sample: 0 }`,
    'sample: 0.01': `{ url: "${url}", sample: 0.01 }`,
    'sample: 1': `{ url: "${url}", sample: 1, max_per_second: 100000 }`,
  }
  const gateways = []
  const figures = new Map(Object.keys(settings).map((name) => [name, []]))
  const busy = []
  let exported = 0
  try {
    for (const [name, traces] of Object.entries(settings)) {
      const gateway = await startTidegate({
        dir,
        upstreamPort: upstream.port,
        redisPort: store.port,
        services: { open: `${OPEN_LIMIT}/min` },
        name: name.replace(/\W+/g, '-'),
        ...(traces === undefined ? {} : { more: `telemetry: { traces: ${traces} }\n` }),
      })
      gateways.push({ ...gateway, setting: name })
    }
    const load = (gateway, time) =>
      wrk({ url: `${gateway.url}/open`, connections: 64, seconds: time, consumers: 10_000 })
    for (const gateway of gateways) await load(gateway, warmup)
    for (let round = 0; round < rounds; round++) {
      // Each gateway is first, second, … equally often.
      const order = gateways.map((_, i) => gateways[(i + round) % gateways.length])
      for (const gateway of order) {
        await sleep(200)
        const disturbed = watchCore(GATEWAY_CORE)
        const before = cpuMs(gateway.pid)
        const { requests, refused, broken } = await load(gateway, seconds)
        // Its last pushes belong to it, too.
        await sleep(1500)
        const cpu = cpuMs(gateway.pid) - before
        // A few requests are refused when the machine is busy with something else.
        if (refused + broken > requests / 1000)
          throw new Error(`${gateway.setting}: ${refused} refused, ${broken} broken`)
        figures.get(gateway.setting).push((cpu * 1000) / requests)
        busy.push(disturbed(cpu))
      }
      process.stderr.write(`round ${round + 1} of ${rounds}\n`)
    }
    const all = gateways.find(({ setting }) => setting === 'sample: 1')
    exported = (await all.metrics())('tidegate_spans_exported_total')
  } finally {
    for (const gateway of gateways) await stop(gateway.child)
    const { pushes, bytes } = await ask(collector.child)
    console.log(`${exported} spans of "sample: 1" arrived; ${Math.round(bytes / pushes)} bytes a push`)
    for (const { child } of [upstream, collector]) await stop(child, 'SIGKILL')
    await store.stop()
  }
  const base = figures.get('off')
  const added = (name) => figures.get(name).map((us, i) => us - base[i])
  const range = (values) => `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`
  printTable(
    ['traces', 'CPU µs/request', 'added', 'of the rounds'],
    [...figures.keys()].map((name) => [
      name,
      median(figures.get(name)).toFixed(1),
      name === 'off' ? '' : median(added(name)).toFixed(2),
      name === 'off' ? '' : range(added(name)),
    ]),
  )
  console.log(`\nthe core was busy with others for ${Math.round(median(busy) * 100)} % of the time`)
  const figure = median(added('sample: 0'))
  return printMarks([
    {
      name: 'µs that a request costs that is not recorded',
      figure: figure.toFixed(2),
      holds: figure <= MOST,
    },
  ])
}
