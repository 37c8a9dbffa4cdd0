import { spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { dashboardFiles } from '../../grafana/source/dashboards.js'
import { createFamilies } from '../../src/telemetry/metrics/metric-definitions.js'
import { ROOT, readPages } from '../support/pages.js'
import { hasPromtool } from '../support/telemetry/exposition.js'
import {
  alertRules,
  asGrafanaAsks,
  dashboards,
  read,
  recordingRules,
  shownQueries,
} from '../support/telemetry/grafana.js'

t.test('grafana/dashboards is up to date with grafana/source; else run: npm run grafana', async (t) => {
  const made = dashboardFiles()
  t.strictSame(readdirSync(join(ROOT, 'grafana/dashboards')).sort(), [...made.keys()].sort())
  for (const [name, text] of made) t.equal(read(`grafana/dashboards/${name}`), text, name)
})

const panelsOf = (title: string) =>
  dashboards.find((one) => one.title === title)!.panels.filter(({ type }) => type !== 'row')

t.test('every panel has a description, a unit, and a text for no data', async (t) => {
  for (const { title } of dashboards) {
    for (const panel of panelsOf(title)) {
      const name = `${title} > ${panel.title}`
      t.ok((panel.description ?? '').length > 40, name)
      t.ok(panel.fieldConfig.defaults.unit, name)
      t.ok(panel.fieldConfig.defaults.noValue, name)
      t.ok(panel.targets!.length > 0 && panel.targets!.every(({ legendFormat }) => legendFormat !== ''), name)
    }
  }
})

t.test('panels have distinct ids, fill their rows and do not overlap', async (t) => {
  for (const { title, panels } of dashboards) {
    t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, title)
    const taken = new Set<string>()
    for (const { title: name, gridPos } of panels) {
      t.ok(gridPos.x + gridPos.w <= 24, `${title} > ${name}`)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          t.notOk(taken.has(`${x} ${y}`), `${title} > ${name}`)
          taken.add(`${x} ${y}`)
        }
      }
    }
  }
})

t.test('links lead to existing dashboards', async (t) => {
  const uids = dashboards.map(({ uid }) => uid)
  const links = dashboards.flatMap(({ panels }) => panels.flatMap((panel) => panel.links ?? []))
  t.ok(links.length > 0)
  for (const { url } of links) t.ok(uids.includes(/^\/d\/([\w-]+)\?/.exec(url)?.[1] ?? ''), url)
})

t.test('queries use only variables of their dashboard, job and instance among them', async (t) => {
  for (const { title, templating, panels, annotations } of dashboards) {
    const names = new Set(templating.list.map(({ name }) => name))
    const queries = [
      ...panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
      ...annotations.list.map(({ expr }) => expr),
      ...templating.list.map(({ definition = '' }) => definition),
    ]
    const used = new Set(
      queries.flatMap((expr) => [...expr.matchAll(/\$(?!__)(\w+)/g)].map(([, name]) => name!)),
    )
    t.strictSame(
      [...used].filter((name) => !names.has(name)),
      [],
      title,
    )
    for (const name of ['job', 'instance']) t.ok(used.has(name), `${title} can be narrowed to one ${name}`)
  }
})

t.test('queries of panels, alerts and the runbook use existing metrics and labels', async (t) => {
  const definitions = Object.values(createFamilies()).map(({ definition }) => definition)
  const labels = new Set(definitions.flatMap((one) => one.labels.map((label) => label.replace(/\W/g, '_'))))
  const names = new Set(definitions.map(({ prometheus }) => prometheus))
  const recorded = new Set(recordingRules.map(({ record }) => record))
  const runbook = readPages()
    .filter(({ path }) => path.startsWith('docs/runbook/'))
    .flatMap(({ path, blocks }) =>
      blocks.filter(({ language }) => language === 'promql').map(({ text }) => ({ name: path, expr: text })),
    )
  const alerts = alertRules.map(({ alert, expr }) => ({ name: alert, expr }))
  for (const { name, expr } of [...shownQueries, ...runbook, ...alerts]) {
    const words = expr.match(/\b(?:http_(?:server|client)|tidegate)[\w:]+/g) ?? []
    const unknown = words.filter(
      (word) =>
        !names.has(word) &&
        !names.has(word.replace(/_(?:bucket|count|sum)$/, '')) &&
        !labels.has(word) &&
        !recorded.has(word),
    )
    t.strictSame(unknown, [], name)
  }
})

const promtoolTest = hasPromtool
  ? 'promtool finds nothing wrong with the queries'
  : 'promtool is not installed (Debian: apt-get install prometheus), so only the words of the queries were checked'
t.test(promtoolTest, async (t) => {
  if (!hasPromtool) {
    t.pass()
    return
  }
  const rules = shownQueries.map(({ expr }, i) => ({ record: `shown:query${i}`, expr: asGrafanaAsks(expr) }))
  const file = join(t.testdir(), 'rules.yaml')
  writeFileSync(file, JSON.stringify({ groups: [{ name: 'shown', rules }] }))
  const run = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
  t.equal(run.status, 0, run.stdout + run.stderr)
})
