import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { WebSocket } from 'ws'
import { eventually } from '../support/eventually.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { startChat } from '../support/http/websocket.js'
import { startRedis } from '../support/redis/redis.js'

t.test('a limit on open sockets holds over all gateways, for as long as they are open', async (t) => {
  const [chat, redis] = await Promise.all([startChat(t), startRedis(t)])
  const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}", timeout: 5s }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  chat: { upstreams: [${chat.origin}], limits: { free: { amount: 2, algorithm: concurrency, lease: 5s } } }
routes: [{ path: /*, service: chat, websocket: true }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
  const gateways = await Promise.all([startWhole(t, yaml), startWhole(t, yaml)])
  // A gateway whose store does not answer within a second starts without it, and lets the first sockets through uncounted.
  for (const { admin } of gateways) {
    await eventually('it counts in Redis', async () =>
      /^tidegate_store_state\{state="up"\} 1$/m.test(await (await fetch(`${admin}/metrics`)).text()),
    )
  }
  t.teardown(() => {
    if (!t.passing()) for (const gateway of gateways) t.comment(gateway.stderr())
  })
  /** Resolves with the open socket, or with the status of the refusal. */
  const dial = async (gateway: number, user = 'alice'): Promise<WebSocket | number> => {
    const url = gateways[gateway]!.address.replace('http', 'ws')
    const socket = new WebSocket(url, { headers: { 'x-user-id': user } })
    const refused = once(socket, 'unexpected-response').then(([request, response]) => {
      request.destroy()
      t.equal(response.headers['retry-after'], '1')
      return response.statusCode as number
    })
    return Promise.race([once(socket, 'open').then(() => socket), refused])
  }
  const dialUntilOpen = async (gateway: number, what: string): Promise<WebSocket> => {
    let got: WebSocket | number = 429
    await eventually(what, async () => {
      got = await dial(gateway)
      return got !== 429
    })
    t.ok((got as unknown) instanceof WebSocket, what)
    return got as unknown as WebSocket
  }
  const first = (await dial(0)) as WebSocket
  const second = (await dial(1)) as WebSocket
  const opened = performance.now()
  t.equal(await dial(0), 429)
  t.equal(await dial(1), 429)
  const other = (await dial(1, 'bob')) as WebSocket
  t.equal(other.readyState, WebSocket.OPEN, 'another consumer has slots of its own')

  // The shortest lease that can be configured, and a little more.
  await sleep(Math.max(0, 5_500 - (performance.now() - opened)))
  t.equal(await dial(0), 429, 'the lease has run out once, and was renewed')
  for (const socket of [first, second]) {
    socket.send('still there')
    t.equal(String((await once(socket, 'message'))[0]), 'still there')
  }

  first.close()
  const third = await dialUntilOpen(1, 'a closed socket gives its slot back')
  t.equal(await dial(0), 429)
  second.terminate()
  await eventually(
    'its end has come through',
    () => chat.sockets.filter((one) => one.readyState === 1).length === 2,
  )
  const fourth = await dialUntilOpen(0, 'and so does one that broke off')
  for (const socket of [third, fourth, other]) socket.terminate()
})
