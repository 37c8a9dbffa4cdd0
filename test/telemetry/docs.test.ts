// Tests src/telemetry/metrics/{caller,gateway,request,upstream}-metrics.ts
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createLineBuilder } from '../../src/telemetry/logs/access-line.js'
import { createFamilies } from '../../src/telemetry/metrics/metric-definitions.js'
import { createMetrics } from '../../src/telemetry/metrics.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../support/gateway/snapshot.js'
import { hasPromtool, parseExposition } from '../support/telemetry/exposition.js'

const page = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')
const rows = (text: string) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '')))
const quoted = (cell: string | undefined) => [...(cell ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name!)

const [labelSection = '', ...metricSections] = page('metrics.md').split(/^## /m).slice(1)
/** Our metrics come before those of the process. */
const processAt = metricSections.findIndex((section) => section.startsWith('The process'))
const own = rows(metricSections.slice(0, processAt).join('\n'))
const ofProcess = rows(metricSections[processAt] ?? '').flatMap(([names]) => quoted(names))

t.test('docs/metrics.md lists exactly our metrics, with kind and labels', async (t) => {
  const documented = own.map(([name, kind, labels]) => ({
    name: quoted(name)[0],
    kind,
    labels: quoted(labels),
  }))
  const defined = Object.values(createFamilies()).map(({ definition }) => ({
    name: definition.prometheus,
    kind: definition.kind,
    labels: definition.labels.map((label) => label.replace(/\W/g, '_')),
  }))
  const byName = (a: { name?: string | undefined }, b: { name?: string | undefined }) =>
    a.name! < b.name! ? -1 : 1
  t.same(documented.sort(byName), defined.sort(byName))
})

t.test('docs/metrics.md explains every label', async (t) => {
  const explained = rows(labelSection).flatMap(([names]) => quoted(names))
  const used = new Set(Object.values(createFamilies()).flatMap(({ definition }) => definition.labels))
  for (const label of used) {
    const name = label.replace(/\W/g, '_')
    // The page explains these three at their metrics.
    if (!['state', 'result', 'hash'].includes(name)) t.ok(explained.includes(name), name)
  }
})

t.test('docs/metrics.md lists every metric of the process in /metrics', async (t) => {
  const metrics = createMetrics({
    storeState: () => 'up',
    upstreams: () => [],
    logLinesDropped: () => 0,
    serviceName: 'tidegate',
    log: { warn() {} },
  })
  const { types } = parseExposition(await metrics.scrape())
  const shown = [...types.keys()].filter((name) => /^(?:process|nodejs)_/.test(name))
  if (process.platform === 'linux') t.same(ofProcess.sort(), shown.sort())
  else
    t.same(
      shown.filter((name) => !ofProcess.includes(name)),
      [],
    )
})

const queries = [...page('metrics.md').matchAll(/```promql\n([\s\S]+?)```/g)].map(([, query]) => query!)

t.test('the queries of docs/metrics.md use existing metrics and labels', async (t) => {
  t.ok(queries.length > 5)
  const known = new Set(own.flatMap(([name, , labels]) => [...quoted(name), ...quoted(labels)]))
  for (const query of queries) {
    const words = query.match(/\b(?:http|tidegate)_\w+/g) ?? []
    t.same(
      words.filter((word) => !known.has(word.replace(/_(?:bucket|count|sum)$/, ''))),
      [],
      query,
    )
  }
})

const promtoolTest = hasPromtool
  ? 'promtool finds nothing wrong with the queries of docs/metrics.md'
  : 'promtool is not installed (Debian: apt-get install prometheus), so only their words were checked'
t.test(promtoolTest, async (t) => {
  if (!hasPromtool) {
    t.pass()
    return
  }
  const rules = queries.map((query, i) => ({ record: `docs:query${i}`, expr: query }))
  const file = join(t.testdir(), 'rules.yaml')
  writeFileSync(file, JSON.stringify({ groups: [{ name: 'docs', rules }] }))
  const run = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
  t.equal(run.status, 0, run.stdout + run.stderr)
})

t.test('docs/logs.md lists exactly the fields of an access line', async (t) => {
  const documented = rows(page('logs.md')).flatMap(([names]) => quoted(names))
  const line = createLineBuilder()
  const snapshot = exampleSnapshot()
  const denied = exampleDecision({ allowed: false, decidedBy: 'local', reason: 'timeout' })
  const written = JSON.parse(
    line(
      exampleRecord(snapshot, {
        trace: { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: false },
        tenant: 'acme',
        decision: denied,
        error: 'quota_exceeded',
        cause: 'x',
      }),
    ).toString('latin1'),
  )
  t.same(documented.sort(), Object.keys(written).sort())
  const example = /```json\n(\{"time".+\})\n```/.exec(page('logs.md'))?.[1] ?? ''
  t.same(
    Object.keys(JSON.parse(example)).filter((key) => !documented.includes(key)),
    [],
  )
})
