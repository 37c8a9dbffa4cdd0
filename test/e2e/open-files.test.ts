// Tests src/gateway/listen/open-files.ts
import { once } from 'node:events'
import { get } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcessOn, tally } from '../support/gateway/process.js'
import { type RawConnection, rawOn, rawRequest } from '../support/http/raw.js'

/** Opens files until the process may open only a few more, when it gets SIGWINCH. */
const EATER = `
import { closeSync, openSync } from 'node:fs'
process.on('SIGWINCH', () => {
  const taken = []
  try {
    for (;;) taken.push(openSync('/dev/null'))
  } catch {
    for (const file of taken.slice(0, 6)) closeSync(file)
    process.stderr.write('all are taken\\n')
  }
})
`

/**
 * Opens `count` connections at once from `addresses` addresses, sends a request on each, and returns how often each status came; 0 counts
 * those that were closed.
 */
async function burst(port: number, count: number, addresses = 6): Promise<Record<number, number>> {
  const open = async (i: number) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: `127.0.0.${2 + (i % addresses)}` })
    const connection = rawOn(socket)
    await once(socket, 'connect')
    return connection
  }
  const connections = await Promise.all(Array.from({ length: count }, (_, i) => open(i)))
  for (const connection of connections) connection.write(rawRequest('GET /'))
  const settled = (connection: RawConnection) => connection.responses().length > 0 || connection.isClosed()
  await eventually('all are answered or closed', () => connections.every(settled), 20_000)
  const statuses = connections.map((connection) => connection.responses()[0]?.status ?? 0)
  for (const { socket } of connections) socket.destroy()
  return tally(statuses)
}

const status = (url: string) =>
  new Promise<number>((resolve) => {
    get(url, { agent: false }, (res) => resolve(res.resume().statusCode!)).on('error', () => resolve(0))
  })

t.test(
  'a gateway that may open few files limits its connections, and survives running out of files',
  async (t) => {
    const backend = await startBackend(t)
    const folder = t.testdir({
      'eater.mjs': EATER,
      'tidegate.yaml': `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { a: { upstreams: [${backend.origin}] } }
routes: [{ path: /*, service: a }]
log: { access: off }
`,
    })
    const limited = ['bash', '-c', 'ulimit -n 200; exec "$@"', 'bash', process.execPath] as const
    const file = join(folder, 'tidegate.yaml')
    const eater = ['--import', join(folder, 'eater.mjs')]
    const gateway = await startProcessOn(t, file, {}, [], eater, limited)
    const port = Number(new URL(gateway.address).port)

    const one = await burst(port, 40, 1)
    t.same(one, { 0: 28, 200: 12 }, 'one address has a quarter of them')
    const first = await burst(port, 300)
    t.equal((first[200] ?? 0) + (first[0] ?? 0), 300, 'answered or closed at once')
    t.ok(first[200]! >= 50, 'as many as it takes are answered')
    t.ok(first[0]! > 0)
    await eventually('the log has said so', () =>
      /"max_connections":50,"msg":"started"/.test(gateway.stderr()),
    )
    t.match(gateway.stderr(), /closing new connections: as many as allowed are open/)
    let last = 0
    const serves = () => {
      status(gateway.address).then((code) => {
        last = code
      })
      return last === 200
    }
    await eventually('it serves', serves, 20_000)

    gateway.child.kill('SIGWINCH')
    await eventually('it has no more files', () => gateway.stderr().includes('all are taken'), 20_000)
    const second = await burst(port, 30)
    t.same(
      Object.keys(second).filter((code) => !['0', '200', '503'].includes(code)),
      [],
      `closed, answered, or refused as what it is: ${JSON.stringify(second)}`,
    )
    t.equal(gateway.child.exitCode, null, 'the process lives')
    last = 0
    await eventually('it serves again', serves, 20_000)
    const metrics = await fetch(`${gateway.admin}/metrics`).then((res) => res.text())
    t.match(metrics, /tidegate_connections_rejected_total\{reason="total"\} [1-9]/)
  },
)
