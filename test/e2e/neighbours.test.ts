import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Agent, request } from 'undici'
import { startWhole } from '../support/gateway/whole-gateway.js'

interface Attack {
  readonly name: string
  readonly admin?: boolean
  readonly path?: string
  readonly headers?: () => Record<string, string>
  begin(gateway: { address: string; admin: string }, part: number): Promise<() => void> | (() => void)
}

interface Attacks {
  readonly attacks: readonly Attack[]
  startBackend(): Promise<{ origin: string; stop(): void }>
  configOf(attack: Attack, backend: object, settings: object): string
}

const file = join(fileURLToPath(new URL('../..', import.meta.url)), 'bench/chaos/attacks.mjs')
const { attacks, startBackend, configOf }: Attacks = await import(file)

/** A quarter of each attack. `npm run chaos -- --only neighbours` runs all of it, and measures. */
const PART = 1 / 4
const MAX_WAIT_MS = 300
const SETTINGS = {
  ofService: { max_connections: 8, max_wait: `${MAX_WAIT_MS}ms` },
  ofServer: { shed: { event_loop_delay: 0 }, max_connections: 400, max_connections_per_client: 250 },
  timeout: '10s',
}

// Each has a gateway and a backend of its own, and mostly waits.
t.jobs = 4

for (const attack of attacks) {
  t.test(`other clients are still served during ${attack.name}`, async (t) => {
    const backend = await startBackend()
    t.teardown(() => backend.stop())
    const gateway = await startWhole(t, configOf(attack, backend, SETTINGS))
    const agent = new Agent({ connections: 4 })
    t.teardown(() => agent.destroy())
    const target = (attack.admin ? gateway.admin : gateway.address) + (attack.path ?? '/api/x')
    const ask = async () => {
      const { statusCode, body } = await request(target, {
        dispatcher: agent,
        headers: attack.headers?.() ?? {},
      })
      return `${statusCode} ${(await body.text()).slice(0, 200)}`
    }
    let begun = false
    // The bound on admin connections cannot be lowered by a setting.
    const beginning = Promise.resolve(attack.begin(gateway, attack.admin ? 1 : PART)).then((end) => {
      begun = true
      t.teardown(end)
    })
    const seen: string[] = []
    // Longer than a request waits for a connection.
    for (const until = performance.now() + 2 * MAX_WAIT_MS; !begun || performance.now() < until; ) {
      seen.push(await ask())
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await beginning
    t.strictSame(
      seen.filter((one) => !one.startsWith('200')),
      [],
    )
    t.ok(seen.length > 0)
  })
}
