import fc from 'fast-check'
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { openRaw } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'

/** A request, the upstream's answer, and when the client leaves. */
interface Plan {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly body: 'none' | 'sized' | 'chunked' | 'unfinished'
  readonly answer: 'sized' | 'chunked' | 'close' | 'early' | 'cut' | 'reset' | 'silent' | 'garbage' | '204'
  readonly leaves: boolean
}

const plan: fc.Arbitrary<Plan> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE'),
  body: fc.constantFrom('none', 'none', 'sized', 'chunked', 'unfinished'),
  answer: fc.constantFrom(
    'sized',
    'sized',
    'chunked',
    'close',
    'early',
    'cut',
    'reset',
    'silent',
    'garbage',
    '204',
  ),
  leaves: fc.boolean(),
})

function bytesOf({ method, body }: Plan, target: string): string {
  const head = `${method} ${target} HTTP/1.1\r\nHost: a\r\n`
  if (body === 'none') return `${head}\r\n`
  if (body === 'sized') return `${head}Content-Length: ${target.length}\r\n\r\n${target}`
  const chunk = `${target.length.toString(16)}\r\n${target}\r\n`
  return `${head}Transfer-Encoding: chunked\r\n\r\n${chunk}${body === 'chunked' ? '0\r\n\r\n' : ''}`
}

const answerTo = (target: string) => `the answer to ${target}`

function act(request: RawRequest, answer: Plan['answer']): void {
  const body = answerTo(request.target)
  const sized = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  const chunk = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n`
  switch (answer) {
    case 'sized':
    case 'early':
      respond(request, sized)
      break
    case 'chunked':
      respond(request, chunk)
      setTimeout(() => respond(request, '0\r\n\r\n'), 3)
      break
    case 'close':
      respond(request, `HTTP/1.0 200 OK\r\n\r\n${body}`)
      request.socket.end()
      break
    case 'cut':
      respond(request, chunk)
      request.socket.end()
      break
    case 'reset':
      reset(request.socket)
      break
    case 'garbage':
      respond(request, `${sized}garbage`)
      break
    case '204':
      respond(request, 'HTTP/1.1 204 No Content\r\n\r\n')
      break
  }
}

t.test('whatever clients and upstreams do at once, each client gets only its own responses', async (t) => {
  const plans = new Map<string, Plan>()
  const upstream = await rawUpstream(
    t,
    (request) => {
      const { answer } = plans.get(request.target)!
      if (answer === 'early') act(request, answer)
      else {
        const timer = setInterval(() => {
          if (request.closed) clearInterval(timer)
          if (!request.complete) return
          clearInterval(timer)
          act(request, answer)
        }, 1)
      }
    },
    { early: true },
  )
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'], max_connections: 6, max_waiting: 18, max_wait: 20s } }
routes: [{ path: /*, service: api, timeouts: { headers: 700ms, idle: 700ms, total: 30s } }]
server: { min_rate: 0 }
`
  // So few connections that a leaked one is missed soon.
  const gateway = await startGateway(t, yaml)
  let count = 0

  async function run(plan: Plan): Promise<void> {
    const target = `/${count++}`
    plans.set(target, plan)
    const client = await openRaw(gateway.port)
    client.write(bytesOf(plan, target))
    if (plan.leaves) {
      await new Promise((resolve) => setTimeout(resolve, count % 12))
      client.socket.destroy()
      return
    }
    await client.until('the end', () => client.responses().length > 0 || client.isClosed())
    client.socket.destroy()
    const [response] = client.responses()
    const ours = response?.header('content-type') === 'application/problem+json'
    const good =
      response !== undefined && !ours && (response.status === 204 || response.body === answerTo(target))
    const text = JSON.stringify({ target, plan, received: client.received() })
    if (plan.body === 'unfinished' && plan.answer !== 'early') {
      if (response?.status !== 408) throw new Error(`not timed out: ${text}`)
    } else if (['sized', 'chunked', 'close', 'early', 'garbage', '204'].includes(plan.answer)) {
      if (!good) throw new Error(`not answered: ${text}`)
    } else if (plan.answer === 'cut') {
      if (response !== undefined && !ours) throw new Error(`looks complete: ${text}`)
    } else if (!ours || response.status !== (plan.answer === 'silent' ? 504 : 502)) {
      throw new Error(`not failed as it should: ${text}`)
    }
  }

  await fc.assert(
    fc.asyncProperty(fc.array(plan, { minLength: 1, maxLength: 24 }), async (batch) => {
      await Promise.all(batch.map(run))
    }),
    { numRuns: 20 },
  )
  await eventually('all is over', () => gateway.watchdog.size() === 0)
  await gateway.recorded(count)
  t.equal(gateway.records.length, count, 'each is recorded once')
  t.strictSame(gateway.logged, [])
  for (let i = 0; i < 24; i++) await run({ method: 'GET', body: 'none', answer: 'sized', leaves: false })
  const held = Array.from({ length: 24 }, () =>
    run({ method: 'GET', body: 'none', answer: 'sized', leaves: false }),
  )
  await Promise.all(held)
  t.pass('and every place is free again')
  for (const request of upstream.requests) {
    if (request.complete && plans.get(request.target)!.body === 'unfinished') t.fail('a body was completed')
  }
})
