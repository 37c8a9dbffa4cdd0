/** Faults of the configuration and its file. */
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { startBackend } from './backend.mjs'
import { config, folder, run, startGateway } from './gateway.mjs'
import { sleep, startLoad, until } from './load.mjs'

const reloads = (gateway, result) => gateway.metric('tidegate_config_reloads_total', `result="${result}"`)

/** @param change changes the file and says when a good one is back */
async function changing(change, file) {
  const backend = await startBackend()
  const text = (times) =>
    config({ api: { upstreams: [backend.origin] } }, {}, { timeouts: { total: `${100 + times}s` } })
  const gateway = await startGateway(text(0), { file: file?.(text(0)) })
  const load = startLoad(() => `${gateway.address}/api/x`)
  await sleep(500)
  load.mark()
  const began = performance.now()
  const extra = await change(gateway, text)
  const took = performance.now() - began
  load.heal()
  await sleep(500)
  const result = { ...(await load.stop()), ...extra, alive: gateway.alive() }
  await gateway.stop()
  backend.stop()
  return { took, ...result }
}

async function applied(gateway, write) {
  const before = await reloads(gateway, 'applied')
  const began = performance.now()
  write()
  await until('the good one is applied', 15_000, async () => (await reloads(gateway, 'applied')) > before)
  return performance.now() - began
}

async function rejected(gateway, write) {
  const before = await reloads(gateway, 'rejected')
  write()
  await until('it is rejected', 15_000, async () => (await reloads(gateway, 'rejected')) > before)
}

export const rows = [
  {
    name: 'configuration half written, removed, unreadable',
    mark: '0 failed, the last good one in force',
    run: () =>
      changing(async (gateway, text) => {
        const file = gateway.configFile
        const whole = text(1)
        await rejected(gateway, () => writeFileSync(file, whole.slice(0, whole.length / 2)))
        const first = await applied(gateway, () => writeFileSync(file, whole))
        await rejected(gateway, () => unlinkSync(file))
        await applied(gateway, () => writeFileSync(file, text(2)))
        await rejected(gateway, () => {
          unlinkSync(file)
          mkdirSync(file)
        })
        const last = await applied(gateway, () => {
          rmSync(file, { recursive: true })
          writeFileSync(file, text(3))
        })
        const slowest = Math.max(first, last)
        return { slowest, note: `a good one applies after ${(slowest / 1000).toFixed(2)} s` }
      }),
    holds: (r) => r.failed === 0 && r.slowest < 5_000,
  },
  {
    name: 'a ConfigMap is swapped (`..data`)',
    mark: '≤ 5 s, 0 failed',
    run: () => {
      const dir = folder()
      const version = (n, text) => {
        mkdirSync(path.join(dir, `..v${n}`))
        writeFileSync(path.join(dir, `..v${n}`, 'tidegate.yaml'), text)
        symlinkSync(`..v${n}`, path.join(dir, '..data_tmp'))
        renameSync(path.join(dir, '..data_tmp'), path.join(dir, '..data'))
      }
      const file = (text) => {
        version(0, text)
        symlinkSync('..data/tidegate.yaml', path.join(dir, 'tidegate.yaml'))
        return path.join(dir, 'tidegate.yaml')
      }
      return changing(async (gateway, text) => {
        let slowest = 0
        for (const n of [1, 2, 3]) {
          slowest = Math.max(slowest, await applied(gateway, () => version(n, text(n))))
          await sleep(300)
        }
        return { slowest, note: `applied after ${(slowest / 1000).toFixed(2)} s` }
      }, file)
    },
    holds: (r) => r.failed === 0 && r.slowest < 5_000,
  },
  {
    name: 'a bad configuration at the start',
    mark: 'exit 1 in a second',
    run: () => ending('tiers: [free'),
    holds: (r) => r.code === 1 && r.took < 1_000 && /tidegate\.yaml:\d/.test(r.said),
  },
  {
    name: 'its port is taken',
    mark: 'exit 1, and says which',
    async run() {
      const server = net.createServer().listen(0, '127.0.0.1')
      await new Promise((resolve) => server.once('listening', resolve))
      const { port } = server.address()
      const text = config({ api: { upstreams: ['http://127.0.0.1:1'] } }, { listen: `127.0.0.1:${port}` })
      const result = await ending(text)
      server.close()
      return result
    },
    holds: (r) => r.code === 1 && r.took < 3_000 && /is taken/.test(r.said),
  },
]

async function ending(text) {
  const file = path.join(folder(), 'tidegate.yaml')
  writeFileSync(file, text)
  const began = performance.now()
  const { exited, stderr } = run(['start', '--config', file])
  const code = await exited
  const took = performance.now() - began
  return { code, took, said: stderr(), note: `exit ${code} after ${took.toFixed(0)} ms` }
}
