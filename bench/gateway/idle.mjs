/** `npm run bench -- idle`: measures the cost of a client that keeps its connection and sends nothing. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import tls from 'node:tls'
import { OPEN_LIMIT, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { certificate } from '../harness/certificate.mjs'
import { leftAfterGc, measurable } from '../harness/left-after-gc.mjs'
import { pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { folder, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

/** Greatest resident memory of a client, in KiB. */
const MARKS = { 'without TLS': 2, 'with TLS': 25 }
const AT_ONCE = 100

/** Opens a connection, sends one request, and stops. */
async function idleClient(url, i) {
  const { port, protocol } = new URL(url)
  const at = { port, host: '127.0.0.1', rejectUnauthorized: false }
  const isTls = protocol === 'https:'
  const socket = isTls ? tls.connect(at) : net.connect(at)
  await once(socket, isTls ? 'secureConnect' : 'connect')
  socket.write(`GET /open/orders/${i} HTTP/1.1\r\nHost: idle.example\r\nX-User-Id: idle-${i}\r\n\r\n`)
  let text = ''
  socket.on('end', () => socket.destroy(new Error(`an idle client was hung up on after ${text}`)))
  while (text.indexOf('\r\n\r\n') < 0) text += (await once(socket, 'data'))[0].latin1Slice()
  if (!text.startsWith('HTTP/1.1 200 ')) throw new Error(`an idle client got ${text.slice(0, 40)}`)
  return socket
}

/** Measures one gateway with and without clients. Resolves with its mark. */
async function measure(what, quick, clients, files, { store, upstream }) {
  const dir = folder()
  const gateway = await startTidegate({
    dir,
    upstreamPort: upstream.port,
    redisPort: store.port,
    services: { open: `${OPEN_LIMIT}/min` },
    // Handshakes by the hundred hold up the event loop.
    server: ['keep_alive: 10m', 'shed: { event_loop_delay: 0 }', `max_connections: ${clients + 50}`],
    tls: what === 'with TLS' ? certificate(dir) : undefined,
    files,
    nodeArgs: measurable(dir),
  })
  try {
    // By now the code is compiled, and pools and caches are as full as they get.
    await wrk({ url: `${gateway.url}/open`, connections: 64, seconds: quick ? 2 : 5, consumers: 1000 })
    const before = await leftAfterGc(gateway)
    const sockets = []
    for (let i = 0; i < clients; i += AT_ONCE) {
      const more = Array.from({ length: Math.min(AT_ONCE, clients - i) }, (_, k) =>
        idleClient(gateway.url, i + k),
      )
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
      [`${clients} idle clients ${what}, after GC`, 'MiB before', 'MiB with them', 'bytes each'],
      [
        ['resident', ...left('rss')],
        ['heap used', ...left('heapUsed')],
        ['external', ...left('external')],
      ],
    )
    for (const socket of sockets) socket.destroy()
    return {
      name: `${clients} idle keep-alive clients ${what}: ≤ ${MARKS[what]} KiB each, resident`,
      figure: `${(each('rss') / 1024).toFixed(1)} KiB`,
      holds: each('rss') <= MARKS[what] * 1024,
    }
  } finally {
    await stop(gateway.child)
  }
}

export async function idle({ quick }) {
  requireTools({ wrk: true })
  pinSelf()
  // The gateway's limit leaves it half of its files, and nobody here may have more files than the hard limit.
  const files = Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || 65_536
  const clients = Math.min(quick ? 2_000 : 10_000, Math.floor((files - 200) / 2) - 50)
  const store = await startStore()
  const upstream = await startUpstream()
  console.log(shape(store.version))
  try {
    const marks = []
    for (const what of Object.keys(MARKS)) {
      marks.push(await measure(what, quick, clients, files, { store, upstream }))
    }
    console.log()
    return printMarks(marks)
  } finally {
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
}
