// Tests src/config/load/config-files.ts
import { copyFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startGateway } from '../../src/main.js'
import { createAuthority, type Issued } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend } from '../support/gateway/process.js'

const authority = createAuthority(t)
const first = authority.issue('first', 'DNS:api.example')
const second = authority.issue('second', 'DNS:api.example')
const third = authority.issue('third', 'DNS:other.example')

function configOf(upstream: string, ...certificates: Issued[]): string {
  return `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { a: { upstreams: ["${upstream}"] } }
routes: [{ path: /*, service: a }]
log: { access: off, level: silent }
server: { shutdown_delay: 0s, tls: { certificates: ${JSON.stringify(certificates)} } }
`
}

/** Writes a configuration file next to the certificate and key that it names. */
function folderWith(t: Test, upstream: string, ...more: Issued[]) {
  const folder = t.testdir()
  const pair = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') }
  copyFileSync(first.cert, pair.cert)
  copyFileSync(first.key, pair.key)
  const file = join(folder, 'tidegate.yaml')
  writeFileSync(file, configOf(upstream, pair, ...more))
  return { folder, pair, file }
}

function ask(address: string, servername = 'api.example'): Promise<{ status: number; subject: string }> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(address)
    const options = { host: hostname, port, servername, rejectUnauthorized: false, agent: false }
    const req = request(options, (res) => {
      const { subject } = (res.socket as import('node:tls').TLSSocket).getPeerX509Certificate()!
      resolve({ status: res.resume().statusCode!, subject: subject.replace(/^CN=/, '') })
    })
    req.on('error', reject).end()
  })
}

t.test(
  'SIGHUP, POST /config/reload and new certificates in the file take effect without a restart',
  async (t) => {
    const backend = await startBackend(t)
    const { pair, file } = folderWith(t, backend.origin)
    const gateway = await startGateway({ configFile: file })
    t.teardown(() => gateway.close(0))
    t.match(gateway.address, /^https:\/\/127\.0\.0\.1:\d+$/)
    t.same(await ask(gateway.address), { status: 200, subject: 'first' })
    const metrics = () => fetch(`${gateway.adminAddress}/metrics`).then((res) => res.text())
    const seconds = Number(
      /expiry_timestamp_seconds\{certificate=".*tls\.crt"\} (\d+)/.exec(await metrics())?.[1],
    )
    t.ok(seconds > Date.now() / 1000 && seconds < Date.now() / 1000 + 3 * 86_400)

    copyFileSync(second.cert, pair.cert)
    copyFileSync(second.key, pair.key)
    await gateway.config.reload('signal')
    let subject = ''
    const serves = (wanted: string, name?: string) => () => {
      ask(gateway.address, name).then((answer) => {
        subject = answer.subject
      })
      return subject === wanted
    }
    await eventually('the renewed one is served', serves('second'), 20_000)
    t.match(await metrics(), /tidegate_tls_reloads_total\{result="applied"\} 1/)

    writeFileSync(file, configOf(backend.origin, pair, third))
    const response = await fetch(`${gateway.adminAddress}/config/reload`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    t.equal(response.status, 200)
    t.notMatch(await response.text(), /next start/)
    await eventually('the other is served', serves('third', 'other.example'), 20_000)

    writeFileSync(pair.key, 'rubbish')
    await gateway.config.reload('admin')
    await eventually('it is refused', () => {
      metrics().then((text) => {
        subject = text
      })
      return /tidegate_tls_reloads_total\{result="rejected"\} [1-9]/.test(subject)
    })
    t.same(await ask(gateway.address), { status: 200, subject: 'second' })
  },
)

t.test(
  'the start fails with a bad certificate, names the file and the remedy, and leaves nothing open',
  async (t) => {
    const { pair, file } = folderWith(t, 'http://127.0.0.1:1')
    copyFileSync(second.key, pair.key)
    await t.rejects(startGateway({ configFile: file }), {
      message: `${file}: server.tls.certificates[0].key: ${pair.key} is not the key of ${pair.cert}; give the matching key; a file with a chain must begin with the own certificate`,
    })
  },
)

t.test('tidegate check reads the certificate files and reports each bad one', async (t) => {
  const missing = { cert: '/nowhere/a.crt', key: '/nowhere/a.key' }
  const { folder, pair, file } = folderWith(t, 'http://127.0.0.1:1', third, missing)
  const bad = await tidegate(['check', '--config', file], { cwd: folder })
  t.equal(bad.code, 1)
  t.same(
    bad.stderr.split('\n').filter((line) => line !== ''),
    ['cert', 'key'].map((key) => {
      const column = bad.stderr.match(
        new RegExp(`:8:(\\d+): server\\.tls\\.certificates\\[2\\]\\.${key}`),
      )?.[1]
      const what = `${missing[key as 'cert' | 'key']} does not exist; put the file there, or name another`
      return `${file}:8:${column}: server.tls.certificates[2].${key}: ${what}`
    }),
  )
  writeFileSync(file, configOf('http://127.0.0.1:1', pair))
  const good = await tidegate(['check', '--config', file], { cwd: folder })
  t.equal(good.code, 0)
  t.match(good.stdout, 'listen     127.0.0.1:0, TLSv1.2 or later, 1 certificate\n')
  t.match(
    good.stderr,
    /:8:\d+: warning: server\.tls\.certificates\[0\]\.cert: .*tls\.crt expires on .*; renew the certificate/,
  )
})
