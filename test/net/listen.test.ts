import { once } from 'node:events'
import { createServer } from 'node:net'
import t from 'tap'
import { listen } from '../../src/net/listen.js'
import { freePort } from '../support/free-port.js'

t.test('the kernel is asked for room for 4,096 connections that wait', async (t) => {
  const asked: object[] = []
  const app = { listen: async (at: object) => void asked.push(at) }
  await listen(app, { host: 'localhost', port: 1234 }, 'listen', 'file.yaml')
  t.match(asked, [{ port: 1234, backlog: 4096 }])
})

t.test('an address that is taken is named, with its key and what to do', async (t) => {
  const port = await freePort()
  const server = createServer().listen(port, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const second = createServer()
  const app = {
    listen: (at: object) =>
      new Promise<void>((resolve, reject) => second.once('error', reject).listen(at, resolve)),
  }
  const message = `127.0.0.1:${port} (listen in file.yaml) is taken; stop what listens there, or set listen to another port`
  await t.rejects(listen(app, { host: '127.0.0.1', port }, 'listen', 'file.yaml'), { message })
})
