/** `npm run bench -- idle`: measures the cost of a client that keeps its connection and sends nothing. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { OPEN_LIMIT, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { leftAfterGc, measurable } from '../harness/left-after-gc.mjs'
import { pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { folder, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

const MOST = 12 * 1024
const AT_ONCE = 100

/** Opens a connection, sends one request, and stops. */
async function idleClient(port, i) {
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(`GET /open/orders/${i} HTTP/1.1\r\nHost: idle.example\r\nX-User-Id: idle-${i}\r\n\r\n`)
  let text = ''
  socket.on('end', () => socket.destroy(new Error(`an idle client was hung up on after ${text}`)))
  while (text.indexOf('\r\n\r\n') < 0) text += (await once(socket, 'data'))[0].latin1Slice()
  if (!text.startsWith('HTTP/1.1 200 ')) throw new Error(`an idle client got ${text.slice(0, 40)}`)
  return socket
}

export async function idle({ quick }) {
  requireTools({ wrk: true })
  pinSelf()
  // The gateway's limit leaves it half of its files, and nobody here may have more files than the hard limit.
  const files = Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || 65_536
  const clients = Math.min(quick ? 2_000 : 10_000, Math.floor((files - 200) / 2) - 50)
  const dir = folder()
  const store = await startStore()
  const upstream = await startUpstream()
  console.log(shape(store.version))
  const gateway = await startTidegate({
    dir,
    upstreamPort: upstream.port,
    redisPort: store.port,
    services: { open: `${OPEN_LIMIT}/min` },
    server: ['keep_alive: 10m', `max_connections: ${clients + 50}`],
    files,
    nodeArgs: measurable(dir),
  })
  try {
    // By now the code is compiled, and pools and caches are as full as they get.
    await wrk({ url: `${gateway.url}/open`, connections: 64, seconds: quick ? 2 : 5, consumers: 1000 })
    const before = await leftAfterGc(gateway)
    const { port } = new URL(gateway.url)
    const sockets = []
    for (let i = 0; i < clients; i += AT_ONCE) {
      const more = Array.from({ length: Math.min(AT_ONCE, clients - i) }, (_, k) => idleClient(port, i + k))
      sockets.push(...(await Promise.all(more)))
    }
    const after = await leftAfterGc(gateway)
    const gone = sockets.filter((socket) => socket.destroyed || socket.readableEnded).length
    if (gone > 0) throw new Error(`${gone} of ${clients} idle connections were closed`)
    const each = (key) => (after[key] - before[key]) / clients
    const mib = (n) => (n / 2 ** 20).toFixed(1)
    const left = (key) => [mib(before[key]), mib(after[key]), Math.round(each(key))]
    console.log()
    printTable(
      [`${clients} idle clients, after GC`, 'MiB before', 'MiB with them', 'bytes each'],
      [
        ['resident', ...left('rss')],
        ['heap used', ...left('heapUsed')],
        ['external', ...left('external')],
      ],
    )
    console.log()
    for (const socket of sockets) socket.destroy()
    return printMarks([
      {
        name: `${clients} idle keep-alive clients: ≤ 12 KiB each, resident`,
        figure: `${(each('rss') / 1024).toFixed(1)} KiB`,
        holds: each('rss') <= MOST,
      },
    ])
  } finally {
    await stop(gateway.child)
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
}
