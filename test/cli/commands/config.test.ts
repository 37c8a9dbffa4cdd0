// Tests src/config/load/values-in-force.ts
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { freePort } from '../../support/free-port.js'
import { tidegate } from '../../support/gateway/cli.js'
import { startProcessOn } from '../../support/gateway/process.js'

t.test('config shows every value with where it comes from, and whether the gateway runs it', async (t) => {
  const adminPort = await freePort()
  const config = (limit: string) => `
listen: "127.0.0.1:\${PORT:-0}"
admin: { listen: "127.0.0.1:${adminPort}", token: "\${THE_TOKEN}" }
tiers: [free]
consumers: [{ api_key: { header: x-api-key, keys: [{ key: a-plain-key, consumer: acme }] } }]
services:
  api: { upstreams: ["http://\${THE_HOST}:9"], limits: { free: ${limit} } }
routes: [{ path: /*, service: api }]
include: [more.yaml]
log: { access: off }
`
  const folder = t.testdir({
    'tidegate.yaml': config('10/min'),
    'more.yaml':
      'services: { other: { upstreams: [http://127.0.0.1:9] } }\nroutes: [{ path: /other, service: other, cost: 3 }]\n',
  })
  const file = join(folder, 'tidegate.yaml')
  const env = { THE_TOKEN: 'a-very-secret-token', THE_HOST: 'host-of-the-environment', PORT: '0' }
  const run = (...args: string[]) => tidegate(['config', ...args, '--config', file], { env })
  const none = await run('services.api.limits')
  t.match(none, {
    code: 0,
    stdout: `  services.api.limits.free  10/min  ${file}:7\n`,
    stderr:
      'tidegate config: no gateway answers, so it is not known whether this configuration is in force\n',
  })

  await startProcessOn(t, file, env)
  const whole = await run()
  t.match(whole, { code: 0, stderr: '' })
  const line = (key: string) =>
    whole.stdout
      .split('\n')
      .find((one) => one.trim().startsWith(`${key} `))
      ?.trim()
  const words = (key: string) => line(key)?.split(/ {2,}/)
  t.strictSame(words('listen'), ['listen', `\${PORT}`, `${file}:2`])
  t.strictSame(words('admin.token'), ['admin.token', '***', `${file}:3`])
  t.strictSame(words('services.api.max_connections'), ['services.api.max_connections', '128', 'default'])
  t.strictSame(words('services.other.upstreams')?.[2], join(folder, 'more.yaml:1'))
  t.strictSame(words('routes[/other].cost'), ['routes[/other].cost', '3', join(folder, 'more.yaml:2')])
  t.match(line('consumers[0].api_key.keys[acme].sha256'), /\*\*\* +\S+:5$/)
  t.notMatch(whole.stdout, /a-very-secret-token|host-of-the-environment|a-plain-key/)

  const { values } = JSON.parse((await run('routes', '--json')).stdout)
  t.match(values[0], { key: 'routes[/*].path', value: '/*', from: { file, line: 8, column: 18, env: [] } })

  await writeFile(
    file,
    config('20/min').replace('limits', 'max_wait: 2s, limits').replace('20/min', '20 apples'),
  )
  t.match(await run(), { code: 1, stdout: '', stderr: /:7:\d+: services\.api\.limits\.free: / })
  t.match(await run('nothing.here'), { code: 1 })
  await writeFile(file, config('20/min'))
  const other = await run('services.api.limits.free')
  t.match(other.stdout, /20\/min/)
  // The gateway may have taken the file by now.
  t.match(
    other.stderr,
    /^$|^tidegate config: the running gateway has another configuration, [0-9a-f]{12} since /,
  )
})
