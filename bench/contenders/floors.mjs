/**
 * The floor below every gateway, with no limit, no log, no ids: `bare` is node:http in front of undici and nothing else,
 * `http-proxy` the package of that name. Both keep their upstream connections, and neither strips a hop-by-hop field that the
 * bench doesn't send.
 */
import http from 'node:http'
import httpProxy from 'http-proxy'
import { Pool } from 'undici'

const { mode, upstream } = JSON.parse(process.argv[2])

/** One class, so that undici's calls stay monomorphic: as Tidegate does it. */
class Passing {
  constructor(res) {
    this.res = res
    this.abort = undefined
    this.resume = undefined
    res.on('close', () => {
      if (!res.writableFinished) this.abort?.()
    })
  }
  onConnect(abort) {
    this.abort = abort
  }
  onHeaders(status, raw, resume) {
    this.resume = resume
    const head = []
    for (const piece of raw) head.push(piece.toString('latin1'))
    this.res.writeHead(status, head)
    return true
  }
  onData(chunk) {
    if (this.res.write(chunk)) return true
    this.res.once('drain', this.resume)
    return false
  }
  onComplete() {
    this.res.end()
  }
  onError() {
    if (this.res.headersSent) this.res.destroy()
    else this.res.writeHead(502).end()
  }
}

function bare() {
  const pool = new Pool(upstream, { connections: 128, pipelining: 1 })
  return (req, res) => {
    const raw = req.rawHeaders
    const headers = []
    for (let i = 0; i < raw.length; i += 2) {
      const name = raw[i].toLowerCase()
      if (name !== 'connection' && name !== 'keep-alive') headers.push(raw[i], raw[i + 1])
    }
    const body = req.headers['content-length'] === undefined ? null : req
    pool.dispatch({ path: req.url, method: req.method, headers, body }, new Passing(res))
  }
}

function proxied() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 128 })
  const proxy = httpProxy.createProxyServer({ target: upstream, agent, xfwd: true })
  proxy.on('error', (_error, _req, res) => {
    if (res.headersSent) res.destroy()
    else res.writeHead(502).end()
  })
  return (req, res) => proxy.web(req, res)
}

const server = http.createServer(
  { keepAliveTimeout: 72_000, highWaterMark: 65_536 },
  mode === 'bare' ? bare() : proxied(),
)
server.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () =>
  process.send({ port: server.address().port }),
)
process.on('disconnect', () => process.exit(0))
