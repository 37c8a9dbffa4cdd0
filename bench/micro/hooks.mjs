// What hooks of extensions cost a request, in ns of the process's CPU: node bench/micro/hooks.mjs, after npm run build.
// Medians of interleaved rounds. Each request is new, and its stage runs one hook.
import { Exchange } from '../../dist/gateway/exchange/exchange.js'
import { NO_HEADERS } from '../../dist/gateway/exchange/headers.js'
import { createHookRunner, endHooks } from '../../dist/gateway/extensions/runner.js'
import { createHookStages } from '../../dist/gateway/stages/extensions.js'

const ROUNDS = 15
const CALLS = 100_000

const quiet = { extensionFailed() {}, warn() {} }
const stages = createHookStages(createHookRunner({ metrics: quiet, log: quiet }))
const snapshot = { tiers: ['free'], config: {} }
const bound = (run) => ({
  extension: 'fraud',
  hook: 'onRequest',
  run,
  explain: false,
  body: undefined,
  timeout: 50,
  onError: 'deny',
})
const route = (run) => ({ label: '/*', path: '/*', hooks: run && { onRequest: [bound(run)] } })

const cases = {
  'no hook': route(undefined),
  'a sync hook': route(() => undefined),
  'a sync hook that reads the request': route((request) => {
    if (request.method === 'PUT' && request.consumer === 'x') throw new Error('never')
  }),
  'an async hook that does not wait': route(async () => undefined),
}

async function round(of) {
  let left = CALLS
  const began = process.cpuUsage()
  await new Promise((resolve, reject) => {
    // Sixteen requests at a time, as they come in one turn of the event loop.
    const turn = () => {
      let open = 16
      const next = () => {
        if (--open > 0) return
        left -= 16
        if (left <= 0) resolve()
        else setImmediate(turn)
      }
      for (let i = 0; i < 16; i++) {
        const x = new Exchange(snapshot, 'id', 'GET', '/', NO_HEADERS, '127.0.0.1', 0)
        x.route = of
        const ended = () => {
          endHooks(x)
          next()
        }
        const outcome = stages.onRequest(x, { proceed: ended, broken: reject })
        if (outcome === undefined) ended()
      }
    }
    turn()
  })
  const { user, system } = process.cpuUsage(began)
  return ((user + system) * 1000) / CALLS
}

const names = Object.keys(cases)
const times = Object.fromEntries(names.map((name) => [name, []]))
for (let i = 0; i < ROUNDS + 2; i++) {
  for (const name of i % 2 ? names : [...names].reverse()) {
    const ns = await round(cases[name])
    if (i >= 2) times[name].push(ns)
  }
}
const median = (list) => list.sort((a, b) => a - b)[list.length >> 1]
const base = median(times['no hook'])
for (const name of names) {
  const ns = median(times[name])
  console.log(
    `${name.padEnd(36)} ${ns.toFixed(0).padStart(6)} ns  ${name === 'no hook' ? '' : `+${(ns - base).toFixed(0)}`}`,
  )
}
