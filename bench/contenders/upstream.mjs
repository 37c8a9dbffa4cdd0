/**
 * The upstream that every contender proxies to, on raw sockets, so that the core it shares with the load generator is not
 * what sets the rate: one small JSON answer, the same in one chunk below /chunked/, or as many bytes as a path that ends with /body/N asks
 * for. What is uploaded is read by its length and thrown away. Run as a child: says its port and answers `hits` and `bytes` over IPC.
 */
import net from 'node:net'

const small =
  '{"id":"ord_81723","status":"paid","amount":1999,"currency":"EUR","items":[{"sku":"A-1","qty":2}]}'
const end = '\r\n\r\n'
let hits = 0
/** Bytes of request bodies that came in. */
let bytes = 0

function answerOf(type, body) {
  const head = `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT${end}`
  return Buffer.concat([Buffer.from(head), body])
}

const plain = answerOf('application/json', Buffer.from(small))
const chunked = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT${end}${small.length.toString(16)}\r\n${small}\r\n0${end}`,
)
const large = new Map()

function largeAnswer(size) {
  if (!large.has(size)) large.set(size, answerOf('application/octet-stream', Buffer.alloc(size, 'x')))
  return large.get(size)
}

function reply(head) {
  if (head.includes('/chunked/')) return chunked
  const asked = /\/body\/(\d+) HTTP/.exec(head)
  return asked === null ? plain : largeAnswer(Number(asked[1]))
}

const server = net.createServer({ noDelay: true }, (socket) => {
  let rest = ''
  /** Bytes of a body that are still to come; `answer` is sent after them. */
  let due = 0
  let answer
  socket.on('data', (chunk) => {
    if (due > 0) {
      const taken = Math.min(due, chunk.length)
      due -= taken
      bytes += taken
      if (due > 0) return
      socket.write(answer)
      if (taken === chunk.length) return
      chunk = chunk.subarray(taken)
    }
    // A head that comes in two pieces is kept until it is whole.
    let text = rest + chunk.latin1Slice()
    let at = text.indexOf(end)
    while (at !== -1) {
      hits++
      const length = text.charCodeAt(0) === 80 ? /content-length: (\d+)/i.exec(text) : null
      if (length === null) {
        socket.write(reply(text.slice(0, at)))
        text = text.slice(at + end.length)
      } else {
        answer = plain
        const here = Math.min(Number(length[1]), text.length - at - end.length)
        due = Number(length[1]) - here
        bytes += here
        text = text.slice(at + end.length + here)
        if (due > 0) break
        socket.write(answer)
      }
      at = text.length === 0 ? -1 : text.indexOf(end)
    }
    rest = text
  })
  socket.on('error', () => socket.destroy())
})

server.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () =>
  process.send({ port: server.address().port }),
)
process.on('message', () => process.send({ hits, bytes }))
process.on('disconnect', () => process.exit(0))
