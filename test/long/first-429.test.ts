import { execFileSync, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { eventually } from '../support/eventually.js'
import { freePort } from '../support/free-port.js'
import { scratchFolder } from '../support/scratch.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test(
  'from `git clone` to the first 429 takes less than a minute, and `npm start` less than 10 s of it',
  async (t) => {
    const folder = join(scratchFolder(t, 'tidegate-clone-'), 'tidegate')
    // As in a shell of a user: `npm test` gives its children variables about this package.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_|^TAP/i.test(name)))
    const began = performance.now()
    execFileSync('git', ['clone', '--quiet', root, folder], { env })
    execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: folder, env, stdio: 'ignore' })
    const installed = performance.now()

    const file = join(folder, 'config/tidegate.yaml')
    const [gateway, ...others] = await Promise.all([freePort(), freePort(), freePort(), freePort()])
    const ports = [gateway, ...others]
    writeFileSync(
      file,
      [8080, 8081, 9001, 9002].reduce(
        (text, port, i) => text.replaceAll(`:${port}`, `:${ports[i]}`),
        readFileSync(file, 'utf8'),
      ),
    )
    const child = spawn('npm', ['start'], { cwd: folder, env, detached: true, stdio: 'ignore' })
    t.teardown(() => process.kill(-child.pid!, 'SIGKILL'))
    const ask = async () => {
      const headers = { 'x-api-key': 'demo-free-key' }
      const answer = await fetch(`http://127.0.0.1:${gateway}/payments/hello`, { headers }).catch(
        () => undefined,
      )
      await answer?.arrayBuffer()
      return answer?.status
    }
    await eventually('the demo answers', async () => (await ask()) === 200)
    const up = performance.now()
    await eventually('the quota is spent', async () => (await ask()) === 429)
    const limited = performance.now()

    const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`
    t.comment(
      `clone and npm ci ${seconds(installed - began)}, up after ${seconds(up - installed)}, first 429 after ${seconds(limited - began)}`,
    )
    t.ok(up - installed < 10_000, 'it is up in less than 10 s')
    t.ok(limited - began < 60_000, 'the first 429 comes in less than a minute')
  },
)
