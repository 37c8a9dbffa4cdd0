/** The same paced load on several ways to one upstream, in interleaved rounds, and what each adds to the direct one. */
import { generate, wrongs } from '../harness/generate.mjs'
import { cpuMs, GATEWAY_CORE, watchCore } from '../harness/machine.mjs'
import { median, printTable } from '../harness/table.mjs'

/** `ways` hold `direct`, `tidegate, unlimited`, `tidegate, limited` and `pair, limited`; `verdict` is told what went wrong. */
export async function addedLatency(load, ways, { clients, rate, rounds, seconds, verdict }) {
  const done = []
  for (let i = -1; i < rounds; i++) {
    const order = i % 2 ? [...ways].reverse() : ways
    const figures = {}
    for (const way of order) {
      const job = {
        url: way.url,
        clients,
        rate,
        seconds: i < 0 ? 2 : seconds,
        // 5,000 new connections are a burden of their own for a while, which is not measured here.
        warmup: i < 0 ? 2 : 4,
      }
      let disturbed
      let cpu
      const f = await generate(load, job, () => {
        disturbed = watchCore(GATEWAY_CORE)
        cpu = way.pid ? cpuMs(way.pid) : 0
      })
      const own = way.pid ? cpuMs(way.pid) - cpu : 0
      figures[way.name] = { ...f, others: disturbed(own), cpu: (own * 1000) / f.counted }
      verdict(way.name, wrongs(f))
      if (f.limited > 0) verdict(way.name, [`${f.limited} denied`])
    }
    if (i >= 0) done.push(figures)
  }
  const row = (label, name, f, direct) => [
    label,
    name,
    f.latency.p50.toFixed(2),
    f.latency.p99.toFixed(2),
    f.latency.p999.toFixed(2),
    name === 'direct' ? '' : (f.latency.p50 - direct.latency.p50).toFixed(2),
    name === 'direct' ? '' : (f.latency.p99 - direct.latency.p99).toFixed(2),
    name === 'direct' ? '' : f.cpu.toFixed(0),
    f.late.p99.toFixed(2),
    `${Math.round(f.others * 100)} %`,
  ]
  const mid = (pick) => median(done.map(pick))
  const summary = Object.fromEntries(
    ways.map(({ name }) => [
      name,
      {
        p50: mid((f) => f[name].latency.p50),
        p99: mid((f) => f[name].latency.p99),
        p999: mid((f) => f[name].latency.p999),
        addedP50: mid((f) => f[name].latency.p50 - f.direct.latency.p50),
        addedP99: mid((f) => f[name].latency.p99 - f.direct.latency.p99),
        cpu: mid((f) => f[name].cpu),
        late: mid((f) => f[name].late.p99),
        others: mid((f) => f[name].others),
      },
    ]),
  )
  printTable(
    [
      'round',
      'way',
      'p50',
      'p99',
      'p99.9',
      'added p50',
      'added p99',
      'CPU µs/req',
      'sent late p99',
      'others on core',
    ],
    [
      ...done.flatMap((f, i) => ways.map(({ name }) => row(i + 1, name, f[name], f.direct))),
      ...ways.map(({ name }) => {
        const s = summary[name]
        const added =
          name === 'direct' ? ['', '', ''] : [s.addedP50.toFixed(2), s.addedP99.toFixed(2), s.cpu.toFixed(0)]
        return [
          'median',
          name,
          s.p50.toFixed(2),
          s.p99.toFixed(2),
          s.p999.toFixed(2),
          ...added,
          s.late.toFixed(2),
          `${Math.round(s.others * 100)} %`,
        ]
      }),
    ],
  )
  const limiter = mid((f) => f['tidegate, limited'].latency.p99 - f['tidegate, unlimited'].latency.p99)
  console.log(
    `\nThe gateway adds ${summary['tidegate, limited'].addedP99.toFixed(2)} ms at p99 (the pair ${summary['pair, limited'].addedP99.toFixed(2)} ms), its limiter ${limiter.toFixed(2)} ms of that.`,
  )

  return { ways: summary, limiterP99: limiter }
}
