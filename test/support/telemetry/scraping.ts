import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { startPrometheus } from './prometheus.js'

export interface Sample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface ActiveAlert {
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly state: 'pending' | 'firing'
}

/** Runs a range query; times are Unix seconds. */
export interface Scraping {
  query(expr: string, at: number): Promise<Sample[]>
  /** Returns the values of each series, one a second, as a panel draws them. */
  queryRange(expr: string, from: number, to: number): Promise<number[][]>
  alerts(): Promise<ActiveAlert[]>
  /** Resolves once everything up to now has been scraped, with the time of that scrape. */
  scraped(): Promise<number>
  /** Resolves once every rule has been evaluated after this time. */
  judged(time: number): Promise<void>
}

/**
 * Starts a real Prometheus that scrapes one target every second as the job `tidegate`.
 *
 * @param target host:port
 * @param rules text of a rule file
 */
export async function startScraping(t: Test, target: string, rules: string): Promise<Scraping> {
  const folder = await mkdtemp(join(tmpdir(), 'tidegate-rules-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'rules.yml')
  writeFileSync(file, rules)
  const { api } = await startPrometheus(t, {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '500ms' },
    rule_files: [file],
    scrape_configs: [{ job_name: 'tidegate', static_configs: [{ targets: [target] }] }],
  })

  type Series = { metric: Record<string, string>; value: [number, string]; values: [number, string][] }
  async function query(expr: string, at: number): Promise<Sample[]> {
    const { resultType, result } = await api(
      `query?${new URLSearchParams({ query: expr, time: at.toFixed(3) })}`,
    )
    if (resultType === 'scalar') return [{ labels: {}, value: Number(result[1]) }]
    return (result as Series[]).map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }))
  }

  return {
    query,
    async queryRange(expr, from, to) {
      const asked = new URLSearchParams({ query: expr, start: `${from}`, end: `${to}`, step: '1' })
      const { result } = await api(`query_range?${asked}`)
      return (result as Series[]).map(({ values }) => values.map(([, value]) => Number(value)))
    },
    async alerts() {
      return (await api('alerts')).alerts
    },
    async scraped() {
      const from = Date.now() / 1000
      for (;;) {
        // A scrape that timed out does not count.
        const [last] = await query('timestamp(up) and (up == 1)', Date.now() / 1000)
        // A scrape is dated by its beginning: one that began later has everything.
        if (last !== undefined && last.value > from) return last.value
        await sleep(50)
      }
    },
    async judged(time) {
      const behind = async () => {
        const groups: readonly { lastEvaluation: string }[] = (await api('rules')).groups
        return groups.some(({ lastEvaluation }) => Date.parse(lastEvaluation) / 1000 <= time)
      }
      while (await behind()) await sleep(50)
    },
  }
}
