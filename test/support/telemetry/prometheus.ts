import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { killAtExit } from '../kill-at-exit.js'

export const hasPrometheus = spawnSync('prometheus', ['--version']).error === undefined

export interface Prometheus {
  readonly url: string
  /** Returns `data` of the HTTP API's answer: `query?query=up`. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into it
  api(path: string): Promise<any>
}

/** Starts a real Prometheus with a folder of its own, which reads `config` and accepts OTLP, exemplars and native histograms. */
export async function startPrometheus(t: Test, config: object): Promise<Prometheus> {
  // Not the test's own folder: `testdir` empties that when the gateway of the same test asks for it.
  const folder = await mkdtemp(join(tmpdir(), 'tidegate-prometheus-'))
  const file = join(folder, 'prometheus.yml')
  writeFileSync(file, JSON.stringify(config))
  const child = spawn(
    'prometheus',
    [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      '--web.listen-address=127.0.0.1:0',
      // By default it waits up to five seconds, twice, before its first scrape.
      '--scrape.discovery-reload-interval=100ms',
      '--enable-feature=exemplar-storage,native-histograms',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const ended = once(child, 'exit')
  killAtExit(child)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
    await rm(folder, { recursive: true, force: true })
  })
  const said: string[] = []
  for await (const line of createInterface(child.stderr)) {
    said.push(line)
    const address = /msg="Listening on" address=(\S+)/.exec(line)?.[1]
    if (address === undefined) continue
    child.stderr.resume()
    const url = `http://${address}`
    // It listens before it has read its own log, and answers 503 meanwhile.
    await eventually('Prometheus is ready', async () => (await fetch(`${url}/-/ready`)).ok, 30_000)
    return {
      url,
      async api(path) {
        const answer = await fetch(`${url}/api/v1/${path}`)
        const { data, error } = (await answer.json()) as { data: unknown; error?: string }
        if (error !== undefined) throw new Error(`${path}: ${error}`)
        return data
      },
    }
  }
  throw new Error(`Prometheus has ended:\n${said.join('\n')}`)
}
