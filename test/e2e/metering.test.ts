// Tests src/admin/routes/meter.ts src/cli/commands/meter.ts
import t from 'tap'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { meteredConfig, startLoad, startReceiver } from '../support/gateway/metered.js'
import { startBackend, startProcess, startProcessOn } from '../support/gateway/process.js'
import { scratchFolder } from '../support/scratch.js'

// They wait for intervals to end, most of the time.
t.jobs = 3
const APART = { buffered: true }

t.test(
  'usage arrives exactly after SIGTERM, and short of a second at most after kill -9',
  APART,
  async (t) => {
    const backend = await startBackend(t)
    const receiver = await startReceiver(t)
    const spool = scratchFolder(t, 'usage-')
    let gateway = await startProcess(t, meteredConfig(backend.origin, receiver.url, spool))
    const { configFile } = gateway
    const clients = startLoad(() => gateway)
    await eventually('some were served', () => clients.served() > 100)
    const loads: number[] = []
    for (const signal of ['SIGTERM', 'SIGKILL', 'SIGTERM'] as const) {
      const before = clients.served()
      const began = performance.now()
      await eventually(
        'more were served',
        () => clients.served() > before + 200 && performance.now() - began > 1500,
      )
      loads.push(((clients.served() - before) / (performance.now() - began)) * 1000)
      receiver.state.up = false
      const next = startProcessOn(t, configFile)
      if (signal === 'SIGKILL') {
        await gateway.stop(signal)
        gateway = await next
      } else {
        const old = gateway
        gateway = await next
        await old.stop(signal)
      }
      receiver.state.up = true
    }
    await clients.stop()
    t.equal(await gateway.stop('SIGTERM'), 0)
    // What the last one could not send is sent by the next.
    const last = await startProcessOn(t, configFile)
    const meter = async () =>
      (await (await fetch(`${last.admin}/meter`)).json()) as { processes: { waiting: number }[] }
    await eventually('nothing waits', async () => (await meter()).processes[0]!.waiting === 0)
    await last.stop('SIGTERM')
    const counted = receiver.count('requests')
    // The requests in flight when a gateway was killed were counted by nobody, or were counted and not answered.
    t.ok(counted <= clients.asked(), `${counted} of ${clients.asked()}`)
    const lost = clients.served() - counted
    t.ok(lost <= Math.max(...loads) * 2, `lost ${lost} at ${Math.max(...loads)} a second`)
    t.ok(counted > 0.5 * clients.served())
  },
)

t.test('with workers each has a spool, and neither SIGUSR2 nor SIGTERM loses anything', APART, async (t) => {
  const backend = await startBackend(t)
  const receiver = await startReceiver(t)
  const spool = scratchFolder(t, 'usage-')
  const gateway = await startProcess(t, meteredConfig(backend.origin, receiver.url, spool), {}, [
    '--workers',
    '2',
  ])
  const clients = startLoad(() => gateway)
  await eventually('some were served', () => clients.served() > 300)
  const pids = async () => {
    const answer = await fetch(`${gateway.admin}/config`)
    return ((await answer.json()) as { workers: { pid: number }[] }).workers.map(({ pid }) => pid)
  }
  const old = await pids()
  gateway.child.kill('SIGUSR2')
  await eventually('the workers are new', async () => {
    const present = await pids()
    return present.length === 2 && !present.some((pid) => old.includes(pid))
  })
  await clients.stop()
  const { code, stdout } = await tidegate(['meter', '--json', '--admin', gateway.admin.slice(7)])
  t.equal(code, 0)
  t.equal(JSON.parse(stdout).processes.length, 2)
  t.equal(await gateway.stop('SIGTERM'), 0)
  t.equal(receiver.count('requests'), clients.served())
})

t.test(
  'tidegate meter shows what arrives, what a consumer used, and sends intervals again',
  APART,
  async (t) => {
    const backend = await startBackend(t)
    const receiver = await startReceiver(t)
    const gateway = await startProcess(
      t,
      meteredConfig(backend.origin, receiver.url, scratchFolder(t, 'usage-'), '2/min'),
    )
    const meter = (...args: string[]) => tidegate(['meter', ...args, '--admin', gateway.admin.slice(7)])
    for (let i = 0; i < 5; i++) await fetch(gateway.address, { headers: { 'x-user-id': 'acme' } })
    await eventually('it arrived', () => receiver.count('denied') === 3)
    t.equal(receiver.count('requests', 'acme'), 2)
    await eventually('nothing waits', async () =>
      /^groups +waiting +lag +on.disk +sent +sent.to\n\d+ +0 +0.s +[\d.]+.K?i?B +\d/.test(
        (await meter()).stdout,
      ),
    )
    t.match(
      (await meter('acme')).stdout,
      /interval +service +tier +requests +cost +denied .+\n.+ api +free +\d/,
    )
    t.match(await meter('nobody'), {
      code: 0,
      stdout: 'nobody has used nothing in the latest intervals of this gateway.\n',
    })
    receiver.events.clear()
    t.match(await meter('--resend', '2020-01-01..2020-01-02'), {
      code: 1,
      stdout: /^No interval of that time/,
    })
    t.match(await meter('--resend', '2020-01-01..2099-01-01'), {
      code: 0,
      stdout: /^\d+ intervals are sent again\.\n/,
    })
    await eventually('it arrived again', () => receiver.count('denied') === 3)
    t.match(await meter('--resend', 'today'), { code: 2, stderr: /--resend needs FROM\.\.TO/ })
    const metrics = async () => (await fetch(`${gateway.admin}/metrics`)).text()
    t.match(await metrics(), /^tidegate_meter_events_total [1-9]/m)
    await eventually('nothing waits', async () => /^tidegate_meter_lag_seconds 0$/m.test(await metrics()))
  },
)

t.test('a gateway without metering says so', APART, async (t) => {
  const gateway = await startProcess(
    t,
    meteredConfig('http://127.0.0.1:9', 'http://127.0.0.1:9', '/nowhere').replace(/^metering.*$/m, ''),
  )
  t.match(await tidegate(['meter', '--admin', gateway.admin.slice(7)]), {
    code: 1,
    stderr: 'tidegate meter: This gateway meters nothing. Add metering to its configuration.\n',
  })
})
