import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { startBackend, startProcess } from '../../support/gateway/process.js'

const MB = 1 << 20
const SIZE = 200 * MB
/** Half of a body. The heap of newer versions of Node is roomier, and takes up to 77 MB with the first one. */
const ALLOWED = 100 * MB
const BLOCK = Buffer.alloc(256 * 1024, 'x')

/** Returns the resident bytes of a process. */
function residentOf(pid: number): number {
  const status = `/proc/${pid}/status`
  if (existsSync(status)) return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(status, 'utf8'))![1]) * 1024
  return Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })) * 1024
}

/** Returns the most that a process grows by while something goes on. */
async function growth(pid: number, during: () => Promise<unknown>): Promise<number> {
  const before = residentOf(pid)
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, residentOf(pid))
  }, 10)
  try {
    await during()
  } finally {
    clearInterval(timer)
  }
  return Math.max(most, residentOf(pid)) - before
}

/** Writes `bytes` bytes as fast as they are taken. Resolves when all are written, or never if the other side leaves. */
function pour(into: NodeJS.WritableStream, size: number): Promise<void> {
  return new Promise((resolve) => {
    let left = size
    const more = () => {
      while (left > 0) {
        const block = left >= BLOCK.length ? BLOCK : BLOCK.subarray(0, left)
        left -= block.length
        if (!into.write(block)) {
          into.once('drain', more)
          return
        }
      }
      resolve()
    }
    more()
  })
}

function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  return new Promise((resolve) => socket.once('connect', () => resolve(socket)))
}

/** Resolves with the number of body bytes once `bytes` have come, or the connection has ended. */
function countBody(socket: Socket, size: number): Promise<number> {
  return new Promise((resolve) => {
    let count = -1
    let head = ''
    socket.on('data', (chunk: Buffer) => {
      if (count >= 0) count += chunk.length
      else {
        head += chunk.toString('latin1')
        const end = head.indexOf('\r\n\r\n')
        if (end >= 0) count = head.length - end - 4
      }
      if (count >= size) resolve(count)
    })
    socket.on('close', () => resolve(count))
  })
}

async function startAll(t: Test) {
  const arrived = { downloads: 0, stuck: 0 }
  const backend = await startBackend(t, (req, res) => {
    if (req.url === '/download') {
      arrived.downloads++
      res.writeHead(200, { 'Content-Length': SIZE })
      pour(res, SIZE).then(() => res.end())
    } else if (req.url === '/stuck') {
      arrived.stuck++
      req.pause()
    } else {
      let count = 0
      req.on('data', (chunk: Buffer) => {
        count += chunk.length
      })
      req.on('end', () => res.end(String(count)))
    }
  })
  const gateway = await startProcess(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
log: { access: 'off', level: error }
tiers: [free]
services: { api: { upstreams: ['${backend.origin}'] } }
routes: [{ path: /*, service: api }]
# The machine may have much else to do.
server: { shed: { event_loop_delay: 0 }, min_rate: 0 }
`,
  )
  const port = Number(new URL(gateway.address).port)
  // Loads and warms up the gateway before it is measured.
  for (let i = 0; i < 50; i++) await (await fetch(gateway.address, { method: 'POST', body: BLOCK })).text()
  return { port, pid: gateway.child.pid!, arrived }
}

t.test('the gateway takes little memory for', async (t) => {
  const { port, pid, arrived } = await startAll(t)

  t.test('a download of 200 MB', async (t) => {
    const grown = await growth(pid, async () => {
      const client = await open(port)
      client.write('GET /download HTTP/1.1\r\nHost: a\r\n\r\n')
      t.equal(await countBody(client, SIZE), SIZE)
      client.destroy()
    })
    t.ok(grown < ALLOWED, `grew by ${(grown / MB).toFixed(1)} MB`)
  })

  for (const framing of ['Content-Length', 'chunks']) {
    t.test(`an upload of 200 MB in ${framing}`, async (t) => {
      const grown = await growth(pid, async () => {
        const client = await open(port)
        const answer = countBody(client, String(SIZE).length)
        let text = ''
        client.on('data', (chunk: Buffer) => {
          text += chunk.toString('latin1')
        })
        if (framing === 'Content-Length') {
          client.write(`POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: ${SIZE}\r\n\r\n`)
          pour(client, SIZE)
        } else {
          // One chunk as large as the body: the gateway has to cut it into its own.
          client.write(
            `POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${SIZE.toString(16)}\r\n`,
          )
          await pour(client, SIZE)
          client.write('\r\n0\r\n\r\n')
        }
        await answer
        t.match(text, new RegExp(`\r\n\r\n${SIZE}$`))
        client.destroy()
      })
      t.ok(grown < ALLOWED, `grew by ${(grown / MB).toFixed(1)} MB`)
    })
  }

  t.test('50 downloads of 200 MB whose clients read nothing', async (t) => {
    const clients = await Promise.all(Array.from({ length: 50 }, () => open(port)))
    const grown = await growth(pid, async () => {
      for (const client of clients) {
        client.pause()
        client.write('GET /download HTTP/1.1\r\nHost: a\r\n\r\n')
      }
      await eventually('all have begun', () => arrived.downloads === 51, 60_000)
      await new Promise((resolve) => setTimeout(resolve, 700))
    })
    for (const client of clients) client.destroy()
    t.ok(grown < ALLOWED, `grew by ${(grown / MB).toFixed(1)} MB`)
  })

  t.test('50 uploads of 200 MB that the upstream does not read', async (t) => {
    const clients = await Promise.all(Array.from({ length: 50 }, () => open(port)))
    const grown = await growth(pid, async () => {
      for (const client of clients) {
        client.write(`POST /stuck HTTP/1.1\r\nHost: a\r\nContent-Length: ${SIZE}\r\n\r\n`)
        pour(client, SIZE)
      }
      await eventually('all have begun', () => arrived.stuck === 50, 60_000)
      await new Promise((resolve) => setTimeout(resolve, 700))
    })
    for (const client of clients) client.destroy()
    t.ok(grown < ALLOWED, `grew by ${(grown / MB).toFixed(1)} MB`)
  })
})
