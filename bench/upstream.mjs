/**
 * The upstream that every contender proxies to: one small JSON answer on raw sockets, so that the core it shares
 * with the load generator is not what sets the rate. Run as a child: says its port and answers `hits` over IPC.
 */
import net from 'node:net'

const body =
  '{"id":"ord_81723","status":"paid","amount":1999,"currency":"EUR","items":[{"sku":"A-1","qty":2}]}'
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n${body}`,
)
const end = '\r\n\r\n'
let hits = 0

const server = net.createServer({ noDelay: true }, (socket) => {
  let rest = ''
  socket.on('data', (chunk) => {
    // Heads only: the bench sends no bodies. A head that comes in two pieces is kept until it is whole.
    let text = rest + chunk.latin1Slice()
    let at = text.indexOf(end)
    while (at !== -1) {
      hits++
      socket.write(answer)
      text = text.slice(at + end.length)
      at = text.length === 0 ? -1 : text.indexOf(end)
    }
    rest = text
  })
  socket.on('error', () => socket.destroy())
})

server.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () =>
  process.send({ port: server.address().port }),
)
process.on('message', () => process.send({ hits }))
process.on('disconnect', () => process.exit(0))
