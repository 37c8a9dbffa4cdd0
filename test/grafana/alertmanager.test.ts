import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { eventually } from '../support/eventually.js'
import { freePort } from '../support/free-port.js'
import { killAtExit } from '../support/kill-at-exit.js'
import { ROOT } from '../support/pages.js'
import { scratchFolder } from '../support/scratch.js'
import { alertRules, read } from '../support/telemetry/grafana.js'

const FILE = join(ROOT, 'grafana/alertmanager.yml')

/** Debian calls it prometheus-alertmanager. */
const program = ['alertmanager', 'prometheus-alertmanager'].find(
  (name) => spawnSync(name, ['--version']).error === undefined,
)
const skip = program === undefined && 'no Alertmanager; apt-get install prometheus-alertmanager'

interface Rule {
  readonly source_matchers: readonly string[]
  readonly target_matchers: readonly string[]
}

t.test('every rule of the sample names alerts that exist', async (t) => {
  const rules = parse(read('grafana/alertmanager.yml')).inhibit_rules as Rule[]
  const known = new Set(alertRules.map(({ alert }) => alert))
  for (const { source_matchers, target_matchers } of rules) {
    for (const matcher of [...source_matchers, ...target_matchers]) {
      const names = /^alertname=~?"(.+)"$/.exec(matcher)?.[1]?.split('|') ?? []
      for (const name of names) t.ok(known.has(name), name)
    }
  }
})

t.test('Alertmanager takes the sample, and tells people about causes only', { skip }, async (t) => {
  const alertmanager = await startAlertmanager(t)

  t.test('a frozen Redis is one page, not nine', async (t) => {
    await alertmanager.fire([
      { alertname: 'TidegateFailOpen', tidegate_service: 'payments' },
      { alertname: 'TidegateFailOpen', tidegate_service: 'search' },
      { alertname: 'TidegateStoreDegraded', instance: 'a:8081' },
      { alertname: 'TidegateStoreDegraded', instance: 'b:8081' },
      { alertname: 'TidegateStoreSlow', instance: 'a:8081' },
      { alertname: 'TidegateStoreSlow', instance: 'b:8081' },
      { alertname: 'TidegateErrorBudgetBurn', tidegate_service: 'ledger', window: '1h' },
      { alertname: 'TidegateErrorBudgetBurn', tidegate_service: 'ledger', window: '6h' },
      { alertname: 'TidegateDenialsJump', tidegate_service: 'reports' },
    ])
    t.strictSame(await alertmanager.notifications(), ['pager: TidegateFailOpen payments, search'])
  })

  t.test('what has another cause is told beside it', async (t) => {
    await alertmanager.fire([
      { alertname: 'TidegateServiceDown', tidegate_service: 'mail' },
      { alertname: 'TidegateUpstreamDown', tidegate_service: 'mail', upstream: 'http://10.0.0.1:80' },
      { alertname: 'TidegateUpstreamDown', tidegate_service: 'files', upstream: 'http://10.0.0.2:80' },
      { alertname: 'TidegateDown', instance: 'c:8081' },
      { alertname: 'TidegateRestarting', instance: 'c:8081' },
      { alertname: 'TidegateRestarting', instance: 'd:8081' },
    ])
    t.strictSame(await alertmanager.notifications(), [
      'channel: TidegateUpstreamDown files',
      'pager: TidegateDown c:8081',
      'pager: TidegateFailOpen payments, search',
      'pager: TidegateRestarting d:8081',
      'pager: TidegateServiceDown mail',
    ])
  })
})

type Labels = Readonly<Record<string, string>>

/** Starts a real Alertmanager with the sample as it is. */
async function startAlertmanager(t: Test) {
  const port = await freePort()
  const child = spawn(
    program!,
    [
      `--config.file=${FILE}`,
      `--storage.path=${scratchFolder(t, 'tidegate-alertmanager-')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--cluster.listen-address=',
    ],
    { stdio: 'ignore' },
  )
  const ended = once(child, 'exit')
  killAtExit(child)
  t.teardown(() => {
    child.kill('SIGKILL')
    return ended
  })
  const api = `http://127.0.0.1:${port}/api/v2/alerts`
  await eventually('Alertmanager is ready', () =>
    fetch(api).then(
      ({ ok }) => ok,
      () => false,
    ),
  )
  return {
    /** Fires alerts with the severity that alerts.yml gives them. */
    async fire(alerts: readonly Labels[]) {
      const severityOf = (name: string) => alertRules.find(({ alert }) => alert === name)!.labels.severity
      const body = alerts.map((labels) => ({
        labels: { job: 'tidegate', severity: severityOf(labels.alertname!), ...labels },
      }))
      const headers = { 'content-type': 'application/json' }
      const { ok } = await fetch(api, { method: 'POST', headers, body: JSON.stringify(body) })
      if (!ok) throw new Error('Alertmanager refuses the alerts')
      await eventually('all are grouped', async () => {
        const there = JSON.stringify(await (await fetch(`${api}/groups`)).json())
        return alerts.every((labels) => Object.values(labels).every((value) => there.includes(value)))
      })
    },
    /** Returns the notifications that people get, as `receiver: alert concerned, concerned`. */
    async notifications(): Promise<string[]> {
      const answer = await fetch(`${api}/groups?active=true&inhibited=false&silenced=false`)
      const groups = (await answer.json()) as {
        receiver: { name: string }
        labels: Labels
        alerts: { labels: Labels }[]
      }[]
      return groups
        .filter(({ alerts }) => alerts.length > 0)
        .map(({ receiver, labels, alerts }) => {
          const concerned = alerts.map(({ labels }) => labels.tidegate_service ?? labels.instance)
          return `${receiver.name}: ${labels.alertname} ${concerned.sort().join(', ')}`
        })
        .sort()
    },
  }
}
