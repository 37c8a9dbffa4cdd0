import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcess } from '../support/gateway/process.js'

t.test('SIGHUP after a rotation makes the gateway log to a new file, and no line is lost', async (t) => {
  const backend = await startBackend(t)
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-log-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'access.log')
  const gateway = await startProcess(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { api: { upstreams: [${backend.origin}] } }
routes: [{ path: /*, service: api }]
log: { access: ${path} }
`,
  )
  const paths = (file: string): string[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line).path)
  const ask = async (target: string) => {
    const { body } = await request(gateway.address + target)
    await body.dump()
  }
  await ask('/before')
  await eventually('the first line is written', () => paths(path).includes('/before'))
  renameSync(path, `${path}.1`)
  gateway.child.kill('SIGHUP')
  await eventually('a new file is there', () => existsSync(path))
  await ask('/after')
  await eventually('the second line is written', () => paths(path).includes('/after'))
  t.strictSame(paths(`${path}.1`), ['/before'])
  t.strictSame(paths(path), ['/after'])
})
