import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { loadConfig } from '../../src/config/load/load.js'
import { isOnPath } from '../support/redis/redis.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const skip = isOnPath('docker-compose') ? false : 'no docker-compose; install it'

interface Service {
  readonly image: string
  readonly read_only?: boolean
  readonly ports?: readonly { readonly host_ip?: string; readonly published: string }[]
  readonly networks: Readonly<Record<string, unknown>>
  readonly environment?: Readonly<Record<string, string>>
  readonly volumes?: readonly { readonly type: string; readonly source: string }[]
  readonly command: readonly string[] | null
}

function compose(env: NodeJS.ProcessEnv, ...args: string[]) {
  return spawnSync('docker-compose', ['--profile', '*', 'config', ...args], {
    cwd: root,
    env: { ...process.env, TIDEGATE_ADMIN_TOKEN: undefined, ...env },
    encoding: 'utf8',
  })
}

t.test('docker-compose accepts docker-compose.yml', { skip }, async (t) => {
  const { status, stdout, stderr } = compose(
    { TIDEGATE_ADMIN_TOKEN: 'a-token-of-some-length' },
    '--format',
    'json',
  )
  t.equal(status, 0, stderr)
  const services = JSON.parse(stdout).services as Record<string, Service>
  t.strictSame(Object.keys(services).toSorted(), [
    'collector',
    'gateway',
    'grafana',
    'locust',
    'marketing',
    'payments',
    'prometheus',
    'redis',
  ])

  t.test('every file that it mounts exists', async (t) => {
    const mounted = Object.values(services).flatMap(({ volumes = [] }) => volumes)
    const files = mounted.filter(({ type }) => type === 'bind').map(({ source }) => source)
    t.ok(files.length > 5)
    for (const file of files) t.ok(existsSync(file), file)
  })

  t.test("only the gateway's own port can be reached from other machines", async (t) => {
    const open = Object.entries(services).flatMap(([name, { ports = [] }]) =>
      ports.filter(({ host_ip: ip }) => ip !== '127.0.0.1').map(({ published }) => `${name} ${published}`),
    )
    t.strictSame(open, ['gateway 8080'])
    t.strictSame(Object.keys(services.redis!.networks), ['store'])
    t.equal(services.redis!.ports, undefined)
  })

  t.test('every image has a version', async (t) => {
    for (const { image } of Object.values(services)) t.match(image, /:(local$|v?\d+\.\d+)/)
  })

  t.test('its gateway configurations are valid', async (t) => {
    const env = services.gateway!.environment!
    for (const path of ['deploy/compose/tidegate.yaml', 'load/tidegate.yaml']) {
      const loaded = loadConfig(readFileSync(join(root, path), 'utf8'), { file: path, env })
      t.match(loaded, { ok: true }, path)
    }
  })
})

t.test('without an admin token it does not start, and says what to do', { skip }, async (t) => {
  const { status, stderr } = compose({}, '--quiet')
  t.not(status, 0)
  t.match(stderr, /TIDEGATE_ADMIN_TOKEN is missing a value: set it, such as by export TIDEGATE_ADMIN_TOKEN=/)
})
