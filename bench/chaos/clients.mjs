/** Faults of clients. */
import net from 'node:net'
import { after, ok, startBackend } from './backend.mjs'
import { config, startGateway } from './gateway.mjs'
import { quantile, sleep, startLoad, until } from './load.mjs'

const TRIES = 50

/** @param misbehave opens connections beside the usual load; its result is added to the figures */
async function beside(serve, misbehave, more = {}) {
  const backend = await startBackend(serve)
  const gateway = await startGateway(
    config({ api: { upstreams: [backend.origin] }, odd: { upstreams: [backend.origin] } }, more),
  )
  const load = startLoad(() => `${gateway.address}/api/x`)
  await sleep(500)
  load.mark()
  const extra = await misbehave(gateway, backend)
  load.heal()
  await sleep(500)
  const result = { ...(await load.stop()), ...extra, alive: gateway.alive() }
  await gateway.stop()
  backend.stop()
  return result
}

const connect = (gateway) => {
  const socket = net.connect(new URL(gateway.address).port, '127.0.0.1')
  socket.on('error', () => {})
  return socket
}

export const rows = [
  {
    name: 'clients leave while their request is under way',
    mark: 'the upstream is told in 50 ms (p99)',
    async run() {
      let told
      const serve = (req, res) => {
        if (!req.url.startsWith('/odd')) ok(req, res)
        else req.socket.once('close', () => told?.())
      }
      return beside(serve, async (gateway, backend) => {
        const times = []
        for (let i = 0; i < TRIES; i++) {
          const odd = backend.requests
          const seen = new Promise((resolve) => {
            told = resolve
          })
          const socket = connect(gateway)
          socket.write('GET /odd/x HTTP/1.1\r\nHost: a\r\n\r\n')
          await until('it is there', 5_000, () => backend.requests > odd)
          await sleep(30)
          const left = performance.now()
          socket.destroy()
          await seen
          times.push(performance.now() - left)
        }
        times.sort((a, b) => a - b)
        const p99 = quantile(times, 0.99)
        return {
          told: p99,
          note: `told after ${quantile(times, 0.5).toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
        }
      })
    },
    holds: (r) => r.failed === 0 && r.told < 50,
  },
  {
    name: 'uploads break off half way',
    mark: 'none looks complete upstream',
    async run() {
      let whole = 0
      const serve = (req, res) => {
        if (!req.url.startsWith('/odd')) ok(req, res)
        else req.resume().on('end', () => whole++)
      }
      return beside(serve, async (gateway) => {
        for (let i = 0; i < TRIES; i++) {
          const socket = connect(gateway)
          const framing = i % 2 === 0 ? 'Content-Length: 100000' : 'Transfer-Encoding: chunked'
          socket.write(`POST /odd/x HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n400\r\n${'x'.repeat(1_024)}\r\n`)
          await sleep(15)
          if (i % 4 < 2) socket.destroy()
          else socket.end()
        }
        await sleep(500)
        return { whole, note: `${whole} of ${TRIES} looked complete` }
      })
    },
    holds: (r) => r.failed === 0 && r.whole === 0,
  },
  {
    name: 'server-sent events, beside the load',
    mark: 'each there 10 ms after it was sent (p99)',
    async run() {
      let stream
      const serve = (req, res) => {
        if (!req.url.startsWith('/odd')) ok(req, res)
        else {
          res.writeHead(200, { 'content-type': 'text/event-stream' })
          res.flushHeaders()
          stream = res
        }
      }
      return beside(serve, async (gateway) => {
        const socket = connect(gateway)
        socket.write('GET /odd/events HTTP/1.1\r\nHost: a\r\n\r\n')
        let received = ''
        let seen = () => {}
        socket.on('data', (data) => {
          received += data.toString('latin1')
          seen()
        })
        await until('the header', 5_000, () => received.includes('\r\n\r\n'))
        const times = []
        for (let i = 0; i < 200; i++) {
          const event = `data: ${i}\n\n`
          const arrived = new Promise((resolve) => {
            seen = () => received.includes(event) && resolve()
          })
          const sent = performance.now()
          stream.write(event)
          await arrived
          times.push(performance.now() - sent)
          await sleep(10)
        }
        socket.destroy()
        times.sort((a, b) => a - b)
        const p99 = quantile(times, 0.99)
        return { late: p99, note: `after ${quantile(times, 0.5).toFixed(1)} ms, p99 ${p99.toFixed(1)} ms` }
      })
    },
    holds: (r) => r.failed === 0 && r.late < 10,
  },
  {
    name: '500 clients send a header byte by byte',
    mark: '0 failed of the others',
    run: () =>
      beside(
        ok,
        async (gateway) => {
          const sockets = Array.from({ length: 500 }, () => connect(gateway))
          for (let i = 0; i < 30; i++) {
            for (const socket of sockets) if (!socket.destroyed) socket.write('G')
            await sleep(100)
          }
          for (const socket of sockets) socket.destroy()
          return {}
        },
        { server: { header_timeout: '1s' } },
      ),
    holds: (r) => r.failed === 0,
  },
  {
    name: '200 clients read nothing of 10 MB each',
    mark: '0 failed of the others; ≤ 100 MiB more',
    async run() {
      const block = Buffer.alloc(10 << 20)
      const serve = (req, res) => {
        if (!req.url.startsWith('/odd')) after(1)(req, res)
        else res.end(block)
      }
      return beside(serve, async (gateway) => {
        const before = gateway.rss()
        const sockets = Array.from({ length: 200 }, () => {
          const socket = connect(gateway).pause()
          socket.write('GET /odd/x HTTP/1.1\r\nHost: a\r\n\r\n')
          return socket
        })
        await sleep(4_000)
        const grown = gateway.rss() - before
        for (const socket of sockets) socket.destroy()
        return { grown, note: `${grown.toFixed(0)} MiB more` }
      })
    },
    holds: (r) => r.failed === 0 && r.grown < 100,
  },
]
