import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { eventually } from '../support/eventually.js'
import { meteredConfig, startLoad, startReceiver } from '../support/gateway/metered.js'
import { startBackend, startProcess, startProcessOn } from '../support/gateway/process.js'
import { scratchFolder } from '../support/scratch.js'

/** Length of the load, in minutes. */
const MINUTES = Number(process.env.METERING_MINUTES ?? 5)

t.test(
  'three gateways that are killed at random bill what they served, less the last second of each',
  async (t) => {
    const backend = await startBackend(t)
    const receiver = await startReceiver(t)
    const gateways = await Promise.all(
      [[], [], ['--workers', '2']].map(async (args) => {
        const yaml = meteredConfig(backend.origin, receiver.url, scratchFolder(t, 'usage-'))
        let gateway = await startProcess(t, yaml, {}, args)
        return {
          current: () => gateway,
          async kill() {
            await gateway.stop('SIGKILL')
            gateway = await startProcessOn(t, gateway.configFile, {}, args)
          },
          async drain() {
            t.equal(await gateway.stop('SIGTERM'), 0)
            // What it could not send is sent by the next one, with what a worker left that was killed.
            gateway = await startProcessOn(t, gateway.configFile, {}, args)
            const waiting = async () => {
              const { processes } = (await (await fetch(`${gateway.admin}/meter`)).json()) as {
                processes: { waiting: number; sent: number }[]
              }
              return processes.reduce((sum, one) => sum + one.waiting, 0)
            }
            await sleep(2000)
            await eventually('nothing waits', async () => (await waiting()) === 0)
            t.equal(await gateway.stop('SIGTERM'), 0)
          },
        }
      }),
    )
    const loads = gateways.map(({ current }) => startLoad(current))
    let mayBeLost = 0
    const end = performance.now() + MINUTES * 60_000
    while (performance.now() < end) {
      const k = Math.floor(Math.random() * gateways.length)
      const before = loads[k]!.served()
      const began = performance.now()
      await sleep(3000 + Math.random() * 7000)
      if (Math.random() < 0.5) receiver.state.up = !receiver.state.up
      const rate = (loads[k]!.served() - before) / ((performance.now() - began) / 1000)
      mayBeLost += rate
      t.comment(
        `kill gateway ${k} at ${Math.round(rate)} requests a second, receiver ${receiver.state.up ? 'up' : 'down'}`,
      )
      await gateways[k]!.kill()
    }
    receiver.state.up = true
    await Promise.all(loads.map((load) => load.stop()))
    await Promise.all(gateways.map(({ drain }) => drain()))
    const sum = (of: 'served' | 'asked') => loads.reduce((total, load) => total + load[of](), 0)
    const counted = receiver.count('requests')
    t.comment(
      `${counted} billed, ${sum('served')} served, ${sum('asked')} sent, at most ${Math.round(mayBeLost)} lost`,
    )
    t.ok(counted <= sum('asked'), 'never more than was sent')
    // The load varies, and a save takes a moment of its own on a busy machine.
    t.ok(sum('served') - counted <= 1.5 * mayBeLost, 'a second of each that was killed')
  },
)
