import { once } from 'node:events'
import t from 'tap'
import { WebSocket } from 'ws'
import { startProcess } from '../support/gateway/process.js'
import { closeOf, startChat } from '../support/http/websocket.js'

t.test('SIGTERM closes open WebSockets with 1001 without waiting; exit code 0', async (t) => {
  const chat = await startChat(t)
  const gateway = await startProcess(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services:
  chat: { upstreams: [${chat.origin}], limits: { free: 10/min } }
routes:
  - { path: /*, service: chat, websocket: true }
server: { shutdown_delay: 0s, shutdown_grace: 30s }
log: { access: off }
`,
  )
  const open = async () => {
    const socket = new WebSocket(gateway.address.replace('http', 'ws'))
    await once(socket, 'open')
    return socket
  }
  const sockets = [await open(), await open()]
  for (const socket of sockets) {
    socket.send('hello')
    t.equal(String((await once(socket, 'message'))[0]), 'hello')
  }
  const codes = Promise.all([...sockets, ...chat.sockets].map(closeOf))
  const started = performance.now()
  t.equal(await gateway.stop('SIGTERM'), 0)
  t.ok(performance.now() - started < 15_000, 'long before the grace of 30 s')
  t.same(
    (await codes).map(({ code }) => code),
    [1001, 1001, 1001, 1001],
  )
})
