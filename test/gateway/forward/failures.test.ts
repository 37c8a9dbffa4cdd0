// Tests src/gateway/forward/{attempt,upstream-exchange}.ts src/gateway/respond/send-error.ts
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { ErrorCode } from '../../../src/errors.js'
import { eventually } from '../../support/eventually.js'
import { startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { hangingListener, refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw, type RawResponse, rawExchange } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'

function yamlFor(origins: readonly string[], route = ''): string {
  return `
tiers: [free]
services: { api: { upstreams: [${origins.map((origin) => `'${origin}'`).join(', ')}] } }
routes: [{ path: /*, service: api${route} }]
server: { min_rate: 0 }
`
}

// These tests mostly wait.
t.jobs = 4
const APART = { buffered: true }

const GET = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n'
const POST = 'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello'

/** Checks the one problem that a client may see: its code, never an address or a library's words. */
function isProblem(t: Test, response: RawResponse | undefined, status: number, code: ErrorCode): void {
  t.equal(response?.status, status, `${response?.body}`)
  t.equal(response?.header('content-type'), 'application/problem+json')
  t.equal(JSON.parse(response!.body).code, code)
  t.notMatch(`${response!.head}${response!.body}`, /127\.0\.0\.1|localhost|ECONN|UND_ERR|undici|socket|\.js/i)
}

async function outcome(gateway: TestGateway, nth: number) {
  await gateway.recorded(nth + 1)
  return gateway.records[nth]!
}

t.test('an upstream that cannot be reached', APART, async (t) => {
  t.test('gives 502 upstream_refused if it refuses, whatever the method', async (t) => {
    const { origin } = await refusingPort()
    const gateway = await startGateway(t, yamlFor([origin]))
    isProblem(t, (await rawExchange(gateway.port, GET)).responses[0], 502, 'upstream_refused')
    isProblem(t, (await rawExchange(gateway.port, POST)).responses[0], 502, 'upstream_refused')
    t.match(await outcome(gateway, 1), { status: 502, error: 'upstream_refused', upstream: { origin } })
    t.match(gateway.records[0]!.cause, /ECONNREFUSED/, 'the log may know')
    t.match([...gateway.upstreams.health()], [{ service: 'api', upstream: origin, healthy: false }])
  })

  t.test('gives 502 upstream_refused if its name is unknown', async (t) => {
    const gateway = await startGateway(t, yamlFor(['http://tidegate-test.invalid:9']))
    const { responses } = await rawExchange(gateway.port, GET)
    t.equal(responses[0]!.status, 502)
    t.match(JSON.parse(responses[0]!.body), { code: 'upstream_refused' })
    t.notMatch(responses[0]!.body, /invalid/)
  })

  t.test('gives 504 upstream_connect_timeout if it neither refuses nor accepts', async (t) => {
    const { origin } = await hangingListener(t)
    const gateway = await startGateway(t, yamlFor([origin]))
    const began = performance.now()
    isProblem(t, (await rawExchange(gateway.port, GET)).responses[0], 504, 'upstream_connect_timeout')
    t.ok(performance.now() - began < 15_000, 'after 2 s and not after the header limit')
    t.match(await outcome(gateway, 0), { status: 504, error: 'upstream_connect_timeout' })
  })
})

t.test('an upstream that does not answer', APART, async (t) => {
  t.test('in time gives 504 upstream_timeout, and its work is aborted', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await startGateway(t, yamlFor([upstream.origin], ', timeouts: { headers: 150ms }'))
    isProblem(t, (await rawExchange(gateway.port, GET)).responses[0], 504, 'upstream_timeout')
    await eventually('the upstream sees the end', () => upstream.requests[0]!.closed)
    t.equal(upstream.requests.length, 1, 'not sent again')
  })

  t.test('but closes gives 502 upstream_failed, for GET after a retry', async (t) => {
    const upstream = await rawUpstream(t, ({ socket }) => void socket.end())
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    isProblem(t, (await rawExchange(gateway.port, GET)).responses[0], 502, 'upstream_failed')
    t.equal(upstream.requests.length, 2)
    isProblem(t, (await rawExchange(gateway.port, POST)).responses[0], 502, 'upstream_failed')
    t.equal(upstream.requests.length, 3, 'a POST once only')
  })

  t.test('but resets gives 502 upstream_failed', async (t) => {
    const upstream = await rawUpstream(t, ({ socket }) => reset(socket))
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    isProblem(t, (await rawExchange(gateway.port, POST)).responses[0], 502, 'upstream_failed')
    isProblem(t, (await rawExchange(gateway.port, GET)).responses[0], 502, 'upstream_failed')
  })

  t.test('after a first byte gets no retry', async (t) => {
    for (const beginning of ['HTTP/1.1 200 O', 'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n']) {
      const upstream = await rawUpstream(t, (request) => {
        respond(request, beginning)
        request.socket.end()
      })
      const gateway = await startGateway(t, yamlFor([upstream.origin]))
      const { responses } = await rawExchange(gateway.port, GET)
      t.equal(responses[0]!.status, 502)
      t.equal(upstream.requests.length, 1, beginning)
    }
  })
})

t.test('a connection that the upstream closed while it was idle', APART, async (t) => {
  // The upstream says keep-alive and resets the connection at the next request: this race, made certain.
  let deadly = false
  const secondRequestDies = (request: RawRequest) => {
    const reused = upstream.requests.some((r) => r !== request && r.connection === request.connection)
    if (deadly && reused) {
      deadly = false
      reset(request.socket)
    } else respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  }
  const upstream = await rawUpstream(t, secondRequestDies)
  const gateway = await startGateway(t, yamlFor([upstream.origin]))
  const send = async (bytes: string) => (await rawExchange(gateway.port, bytes)).responses[0]!

  t.test('does not fail an idempotent request without a body', async (t) => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']) {
      t.equal((await send(GET)).status, 200)
      deadly = true
      const bytes = `${method} /x HTTP/1.1\r\nHost: a\r\n\r\n`
      const { responses } = await rawExchange(gateway.port, bytes, { head: method === 'HEAD' })
      t.equal(responses[0]!.status, 200, method)
      t.equal(deadly, false, 'it did happen')
    }
  })

  t.test('gives 502 for other requests, which are sent once', async (t) => {
    for (const bytes of [
      POST,
      'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n',
      'PATCH /x HTTP/1.1\r\nHost: a\r\n\r\n',
    ]) {
      t.equal((await send(GET)).status, 200)
      const before = upstream.requests.length
      deadly = true
      isProblem(t, await send(bytes), 502, 'upstream_failed')
      t.equal(upstream.requests.length, before + 1)
    }
  })

  t.test('fails no request whose body has not begun: that is sent once more', async (t) => {
    const upstream = await rawUpstream(t)
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
    for (const framing of ['Content-Length: 5', 'Transfer-Encoding: chunked']) {
      const idle = upstream.requests.at(-1)!
      const client = await openRaw(gateway.port)
      client.write(`POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n${framing}\r\n\r\n`)
      await eventually('the body is asked for', () => client.received().includes('100 Continue'))
      idle.socket.end()
      await eventually('the connection is closed', () => idle.closed)
      client.write(framing.startsWith('C') ? 'hello' : '5\r\nhello\r\n0\r\n\r\n')
      await eventually('the answer', () => client.received().includes('200 OK'))
      t.equal(client.received().split('100 Continue').length, 2, 'the client is asked for its body once')
      t.match(upstream.requests.at(-1), { method: 'POST', body: 'hello' })
      t.not(upstream.requests.at(-1)!.connection, idle.connection)
      client.socket.destroy()
    }
    t.equal(upstream.requests.length, 3)
  })

  t.test('is not used if its end came before the next request', async (t) => {
    const closes = await rawUpstream(t, (request) => {
      respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      setTimeout(() => request.socket.end(), 10)
    })
    const gateway = await startGateway(t, yamlFor([closes.origin]))
    for (let i = 0; i < 3; i++) {
      t.equal((await rawExchange(gateway.port, POST)).responses[0]!.status, 200)
      await eventually('the connection is closed', () => closes.requests.at(-1)!.closed)
    }
  })
})

t.test('several upstreams', APART, async (t) => {
  t.test('take turns', async (t) => {
    const upstreams = await Promise.all([rawUpstream(t), rawUpstream(t), rawUpstream(t)])
    const gateway = await startGateway(t, yamlFor(upstreams.map(({ origin }) => origin)))
    for (let i = 0; i < 9; i++) await rawExchange(gateway.port, GET)
    t.strictSame(
      upstreams.map(({ requests }) => requests.length),
      [3, 3, 3],
    )
  })

  t.test('stand in for one that refuses, for every method and with the whole body', async (t) => {
    const [dead, alive] = [await refusingPort(), await rawUpstream(t)]
    const gateway = await startGateway(t, yamlFor([dead.origin, alive.origin]))
    t.equal((await rawExchange(gateway.port, POST)).responses[0]!.status, 200)
    t.match(alive.requests, [{ method: 'POST', body: 'hello' }])
    for (let i = 0; i < 6; i++) t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
    const states = Object.fromEntries([...gateway.upstreams.health()].map((h) => [h.upstream, h.healthy]))
    t.strictSame(states, { [dead.origin]: false, [alive.origin]: true })
  })

  t.test('stand in for one that hangs: one request a second waits for it, others do not', async (t) => {
    const [hanging, alive] = [await hangingListener(t), await rawUpstream(t)]
    const gateway = await startGateway(t, yamlFor([hanging.origin, alive.origin]))
    const began = performance.now()
    t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
    t.ok(performance.now() - began > 1_500, 'the first one had to find out')
    const waits: number[] = []
    for (let i = 0; i < 10; i++) {
      const sent = performance.now()
      t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
      waits.push(performance.now() - sent)
    }
    // Without memory five of ten would wait; whenever a second has gone by, one more may.
    const quick = waits.filter((ms) => ms <= 1_500)
    const seconds = quick.reduce((sum, ms) => sum + ms, 0) / 1_000
    t.ok(waits.length - quick.length <= 1 + seconds, waits.join())
  })

  t.test('that are all down give 502 after one attempt each', async (t) => {
    const dead = await Promise.all([refusingPort(), refusingPort(), refusingPort()])
    const gateway = await startGateway(t, yamlFor(dead.map(({ origin }) => origin)))
    for (let i = 0; i < 4; i++) {
      isProblem(t, (await rawExchange(gateway.port, POST)).responses[0], 502, 'upstream_refused')
    }
    t.strictSame(
      [...gateway.upstreams.health()].map(({ healthy }) => healthy),
      [false, false, false],
    )
  })

  t.test('that answer with 5xx are not down', async (t) => {
    const upstream = await rawUpstream(t, (request) =>
      respond(request, 'HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy'),
    )
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    const { responses } = await rawExchange(gateway.port, GET)
    t.match(responses, [{ status: 503, body: 'busy' }])
    t.match([...gateway.upstreams.health()], [{ healthy: true }])
    t.match(await outcome(gateway, 0), { status: 503, error: undefined })
  })

  t.test('are healthy again with their first response', async (t) => {
    const { port, origin } = await refusingPort()
    const gateway = await startGateway(t, yamlFor([origin]))
    t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 502)
    t.match([...gateway.upstreams.health()], [{ healthy: false }])
    await rawUpstream(t, undefined, { port })
    t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
    t.match([...gateway.upstreams.health()], [{ healthy: true }])
  })
})

t.test('a response that the upstream cuts is cut for the client, too', APART, async (t) => {
  const BODY = 'x'.repeat(1_000)
  const cuts = [
    ['a length not reached', `HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n${BODY}`, 'end'],
    [
      'a length not reached, on a connection that closes',
      `HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n${BODY}`,
      'end',
    ],
    ['a length not reached in HTTP/1.0', `HTTP/1.0 200 OK\r\nContent-Length: 2000\r\n\r\n${BODY}`, 'end'],
    ['a length not reached, by a reset', `HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n${BODY}`, 'reset'],
    [
      'chunks without the last',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n${BODY}\r\n`,
      'end',
    ],
    [
      'chunks without the last, on a connection that closes',
      `HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n${BODY}\r\n`,
      'end',
    ],
    ['a chunk not whole', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n${BODY}`, 'end'],
    ['chunks by a reset', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n${BODY}\r\n`, 'reset'],
    [
      'a chunk size that is none',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n${BODY}\r\n`,
      'garbage',
    ],
    ['a body to the end of the connection, by a reset', `HTTP/1.0 200 OK\r\n\r\n${BODY}`, 'reset'],
    ['the same of HTTP/1.1', `HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${BODY}`, 'reset'],
  ] as const
  for (const [what, bytes, then] of cuts) {
    t.test(what, async (t) => {
      const upstream = await rawUpstream(t, (request) => respond(request, bytes))
      const gateway = await startGateway(t, yamlFor([upstream.origin]))
      for (const version of ['1.1', '1.0']) {
        const client = await openRaw(gateway.port)
        let ended = false
        client.socket.on('end', () => {
          ended = true
        })
        client.write(`GET / HTTP/${version}\r\nHost: a\r\n\r\n`)
        // Once the client has the header and the beginning of the body, only the end of the connection can tell it.
        await client.until('the body', () => client.received().includes(BODY))
        const { socket } = upstream.requests.at(-1)!
        if (then === 'end') socket.end()
        else if (then === 'reset') reset(socket)
        else socket.write('zz\r\n')
        await client.closed()
        const text = client.received()
        t.match(text, /^HTTP\/1.1 200 OK\r\n/)
        if (version === '1.1') t.strictSame(client.responses(), [], 'its framing is not complete')
        else if (/^Content-Length: 2000/m.test(text)) t.ok(text.length < 2_000, 'shorter than announced')
        else t.notOk(ended, 'without a length, only a reset says so')
        await gateway.recorded(version === '1.1' ? 1 : 2)
        const { status, error } = gateway.records.at(-1)!
        t.match({ status, error }, { status: 200, error: 'upstream_cut' })
      }
    })
  }

  t.test('before its header could go out: 502', async (t) => {
    for (const bytes of [
      'HTTP/1.1 200 OK\r\nContent-Le',
      'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody',
    ]) {
      const upstream = await rawUpstream(t, (request) => {
        respond(request, bytes)
        request.socket.end()
      })
      const gateway = await startGateway(t, yamlFor([upstream.origin]))
      const { responses } = await rawExchange(gateway.port, GET)
      t.equal(responses[0]!.status, 502, bytes)
    }
  })
})

t.test('a client that leaves', APART, async (t) => {
  t.test('while the upstream works: its request is aborted at once, and the record says 499', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    for (const leave of [reset, (socket: Socket) => void socket.destroy()]) {
      const seen = upstream.requests.length
      const client = await openRaw(gateway.port)
      client.write(GET)
      await eventually('the request arrives', () => upstream.requests.length > seen)
      leave(client.socket)
      await eventually('the upstream sees the end', () => upstream.requests[seen]!.closed)
    }
    await gateway.recorded(2)
    t.match(gateway.records, [
      { status: 499, error: 'client_closed', upstream: { origin: upstream.origin } },
      { status: 499, error: 'client_closed' },
    ])
    t.equal(upstream.requests.length, 2, 'nothing is sent again')
  })

  t.test('by closing only its sending side: the same', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    const client = await openRaw(gateway.port)
    client.write(GET)
    await eventually('the request arrives', () => upstream.requests.length === 1)
    client.socket.end()
    await eventually('the upstream sees the end', () => upstream.requests[0]!.closed)
    t.match(await outcome(gateway, 0), { status: 499, error: 'client_closed' })
  })

  t.test('during a download: the upstream request is aborted', async (t) => {
    const upstream = await rawUpstream(t, (request) =>
      respond(request, `HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(1000)}`),
    )
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    const client = await openRaw(gateway.port)
    client.write(GET)
    await client.until('the beginning', () => client.received().length > 1_000)
    client.socket.destroy()
    await eventually('the upstream sees the end', () => upstream.requests[0]!.closed)
    t.match(await outcome(gateway, 0), { status: 200, error: 'client_closed', bytesOut: 1_000 })
  })

  t.test('during an upload: the upstream never sees a complete body', async (t) => {
    const upstream = await rawUpstream(t, () => {}, { early: true })
    const gateway = await startGateway(t, yamlFor([upstream.origin]))
    const ways = [
      ['Content-Length: 100', 'x'.repeat(50), 'x'.repeat(50)],
      ['Transfer-Encoding: chunked', '5\r\nhello\r\n', 'hello'],
    ] as const
    let count = 0
    for (const [framing, bytes, part] of ways) {
      for (const leave of [reset, (socket: Socket) => void socket.destroy()]) {
        const client = await openRaw(gateway.port)
        client.write(`POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n${bytes}`)
        await eventually('the part arrives', () => upstream.requests[count]?.body === part)
        leave(client.socket)
        await eventually('the upstream sees the end', () => upstream.requests[count]!.closed)
        t.equal(upstream.requests[count]!.complete, false)
        await gateway.recorded(++count)
        const { status, error, bytesIn } = gateway.records[count - 1]!
        t.strictSame(
          { status, error, bytesIn },
          { status: 499, error: 'client_closed', bytesIn: part.length },
        )
      }
    }
    t.equal(upstream.requests.length, 4, 'nothing is sent again')
  })

  t.test('before there is a connection to the upstream: nothing is sent', async (t) => {
    const { origin } = await hangingListener(t)
    const gateway = await startGateway(t, yamlFor([origin]))
    const client = await openRaw(gateway.port)
    client.write(POST)
    await eventually('it is under way', () => gateway.watchdog.size() === 1)
    client.socket.destroy()
    t.match(await outcome(gateway, 0), { status: 499, error: 'client_closed' })
  })
})
