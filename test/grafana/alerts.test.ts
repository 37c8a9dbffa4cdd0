import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { ROOT, readPage } from '../support/pages.js'
import { hasPromtool } from '../support/telemetry/exposition.js'
import { alertRules, dashboards, read } from '../support/telemetry/grafana.js'

const TESTS = ['grafana/alerts.test.yml', 'grafana/alerts-hours.test.yml']
const names = [...new Set(alertRules.map(({ alert }) => alert))]

t.test('every alert has a severity, a description with values, and a link to its page', async (t) => {
  const uids = dashboards.map(({ uid }) => `/d/${uid}`)
  for (const { alert, labels, annotations } of alertRules) {
    t.match(alert, /^Tidegate[A-Z]/)
    t.ok(['critical', 'warning'].includes(labels.severity), alert)
    t.ok(annotations.summary.length > 10 && annotations.summary.length < 80, alert)
    // These two alerts have no value to show.
    if (!['TidegateAbsent', 'TidegateDown'].includes(alert))
      t.match(annotations.summary + annotations.description, /\{\{ \$(labels|value)/, alert)
    t.ok(uids.includes(annotations.dashboard), alert)
    const page = alert
      .replace('Tidegate', '')
      .replace(/\B[A-Z]/g, '-$&')
      .toLowerCase()
    t.equal(annotations.runbook_url, `docs/runbook/${page}.md`)
  }
})

t.test('every alert has a page in docs/runbook with the same sections in the same order', async (t) => {
  const pages = readdirSync(join(ROOT, 'docs/runbook')).filter((name) => name !== 'README.md')
  const named = new Set(
    alertRules.map(({ annotations }) => annotations.runbook_url.replace('docs/runbook/', '')),
  )
  t.strictSame(pages.sort(), [...named].sort())
  const index = read('docs/runbook/README.md')
  for (const page of pages) {
    const { text, blocks } = readPage(`docs/runbook/${page}`)
    const name = /^# (\w+)$/m.exec(text)?.[1] ?? ''
    t.ok(names.includes(name), page)
    t.match(index, `[${name}](${page})`)
    t.strictSame(
      [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading),
      ['What it means', 'How bad it is', 'What to look at', 'What to do', 'How to know it is over'],
      page,
    )
    t.ok(
      blocks.some(({ language }) => language === 'console' || language === 'promql'),
      page,
    )
    for (const severity of new Set(
      alertRules.filter((one) => one.alert === name).map((one) => one.labels.severity),
    ))
      t.match(text, severity, page)
  }
})

t.test('every alert has a test in which it fires and one in which it does not', async (t) => {
  const moments = TESTS.flatMap((file) => parse(read(file)).tests).flatMap(
    ({ alert_rule_test }: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }) =>
      alert_rule_test,
  )
  for (const name of names) {
    const of = moments.filter(({ alertname }) => alertname === name)
    t.ok(
      of.some(({ exp_alerts }) => exp_alerts.length > 0),
      `${name} fires`,
    )
    t.ok(
      of.some(({ exp_alerts }) => exp_alerts.length === 0),
      `${name} is quiet`,
    )
  }
})

const promtoolTest = hasPromtool
  ? 'promtool finds the rules and the configuration good, and each alert firing and quiet when it should be'
  : 'promtool is not installed (Debian: apt-get install prometheus), so the alerts were read, and not tried'
t.test(promtoolTest, async (t) => {
  if (!hasPromtool) {
    t.pass()
    return
  }
  const runs = [
    ['check', 'config', '--syntax-only', 'grafana/prometheus.yml'],
    ...TESTS.map((file) => ['test', 'rules', file]),
  ]
  await Promise.all(
    runs.map(async (args) => {
      const child = spawn('promtool', args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
      let said = ''
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => {
          said += text
        })
      const [code] = await once(child, 'close')
      t.equal(code, 0, `${args.join(' ')}\n${said}`)
    }),
  )
})

t.test('every file that Grafana and Prometheus are told to read exists', async (t) => {
  const provider = parse(read('grafana/provisioning/dashboards/tidegate.yaml')).providers[0]
  t.equal(provider.options.path, '/var/lib/grafana/dashboards')
  const source = parse(read('grafana/provisioning/datasources/prometheus.yaml')).datasources[0]
  t.equal(source.type, 'prometheus')
  const config = parse(read('grafana/prometheus.yml'))
  for (const file of config.rule_files) t.ok(existsSync(join(ROOT, 'grafana', file)), file)
  t.equal(source.jsonData.timeInterval, config.global.scrape_interval, 'rates fit the scrape interval')
  t.equal(config.scrape_configs[0].job_name, 'tidegate', 'alerts ask for this job')
})
