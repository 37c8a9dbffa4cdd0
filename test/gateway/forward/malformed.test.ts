import fc from 'fast-check'
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { startFaces } from '../../support/http/faces.js'
import { MALFORMED } from '../../support/http/malformed-responses.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { rawUpstream, respond } from '../../support/http/raw-upstream.js'

const GET = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n'

function yamlFor(origin: string): string {
  return `
tiers: [free]
services: { api: { upstreams: ['${origin}'] } }
routes: [{ path: /*, service: api, timeouts: { headers: 300ms, idle: 300ms } }]
`
}

t.test('a response that two readers could read differently is 502, and its connection closes', async (t) => {
  const fields = (count: number) => Array.from({ length: count }, (_, i) => `X-${i}: y\r\n`).join('')
  for (const [what, bytes] of Object.entries(MALFORMED)) {
    t.test(what, async (t) => {
      const upstream = await rawUpstream(t, (request) => respond(request, bytes))
      const gateway = await startGateway(t, yamlFor(upstream.origin))
      const { responses } = await rawExchange(gateway.port, GET)
      t.equal(responses.length, 1)
      t.equal(responses[0]!.status, 502, responses[0]!.body)
      t.equal(JSON.parse(responses[0]!.body).code, 'upstream_bad_response')
      t.notMatch(responses[0]!.body, /127\.0\.0\.1|UND_ERR|HPE_/)
      t.equal(upstream.requests.length, 1, 'and is not asked for again')
      t.ok(gateway.records[0]!.cause, 'the log says what was wrong with it')
    })
  }

  t.test('with 99 fields is well-formed', async (t) => {
    const upstream = await rawUpstream(t, (request) =>
      respond(request, `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${fields(99)}\r\n`),
    )
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
  })

  t.test('with an unknown status is passed on', async (t) => {
    const upstream = await rawUpstream(t, (request) =>
      respond(request, `HTTP/1.1 ${request.target.slice(1)} \r\nContent-Length: 0\r\n\r\n`),
    )
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    for (const status of [299, 418, 499, 599]) {
      const { responses } = await rawExchange(gateway.port, `GET /${status} HTTP/1.1\r\nHost: a\r\n\r\n`)
      t.equal(responses[0]!.status, status)
    }
  })
})

t.test('bytes after a response never answer the next request', async (t) => {
  const smuggled = 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled'
  const first: Record<string, string> = {
    'a length': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    chunks: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'a 204': 'HTTP/1.1 204 No Content\r\n\r\n',
    'a 204 with a length': 'HTTP/1.1 204 No Content\r\nContent-Length: 8\r\n\r\n',
    'a 204 with chunks': 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n',
    'a 304': 'HTTP/1.1 304 Not Modified\r\n\r\n',
    'a 304 with a length': 'HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n',
    'a connection that closes': 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok',
  }
  for (const [what, bytes] of Object.entries(first)) {
    for (const surplus of [smuggled, 'junk', '\r\n\r\n']) {
      for (const later of [false, true]) {
        t.test(
          `after ${what}: ${JSON.stringify(surplus.slice(0, 8))}${later ? ', later' : ''}`,
          async (t) => {
            const upstream = await rawUpstream(t, (request, number) => {
              if (number > 0) respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue')
              else if (later) {
                respond(request, bytes)
                setTimeout(() => respond(request, surplus), 10)
              } else respond(request, bytes + surplus)
            })
            const gateway = await startGateway(t, yamlFor(upstream.origin))
            const client = await openRaw(gateway.port)
            client.write(GET)
            await client.until('first', () => client.responses().length === 1)
            if (later) await eventually('its connection goes', () => upstream.requests[0]!.closed)
            client.write(GET)
            await client.until('second', () => client.responses().length === 2)
            t.equal(client.responses()[1]!.body, 'true')
            t.notMatch(client.received(), /smuggled|junk/)
            client.socket.destroy()
          },
        )
      }
    }
  }

  t.test('after HEAD: a body that must not be there', async (t) => {
    const upstream = await rawUpstream(t, (request, number) =>
      respond(
        request,
        number === 0
          ? `HTTP/1.1 200 OK\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`
          : 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue',
      ),
    )
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    await rawExchange(gateway.port, 'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n', { head: true })
    const { responses } = await rawExchange(gateway.port, GET)
    t.equal(responses[0]!.body, 'true')
  })
})

t.test('whatever bytes an upstream sends, the gateway lives and its clients get HTTP', async (t) => {
  let answer = ''
  const upstream = await rawUpstream(t, (request) => {
    respond(request, request.target === '/well' ? 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell' : answer)
    if (request.target !== '/well') request.socket.end()
  })
  const gateway = await startGateway(t, yamlFor(upstream.origin))
  const piece = fc.constantFrom(
    'HTTP/1.1 200 OK\r\n',
    'HTTP/1.0 500 \r\n',
    'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel="x\r\n\r\n',
    'HTTP/1.1 304 Not Modified\r\n',
    'Content-Length: 5\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Connection: close, x-a\r\n',
    'Set-Cookie: \xff\x80=\t;\r\n',
    '__proto__: x\r\n',
    'constructor: x\r\n',
    'Trailer: X\r\n',
    '\r\n',
    '5\r\nhello\r\n',
    '0\r\n\r\n',
    'hello',
    '\n',
    '\x7f',
    '\0',
  )
  const noise = fc
    .array(fc.integer({ min: 0, max: 255 }), { maxLength: 8 })
    .map((codes) => String.fromCharCode(...codes))
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof({ arbitrary: piece, weight: 6 }, { arbitrary: noise, weight: 1 }), { maxLength: 12 }),
      fc.constantFrom('GET', 'HEAD', 'POST'),
      fc.constantFrom('1.0', '1.1'),
      async (pieces, method, version) => {
        answer = pieces.join('')
        const client = await openRaw(gateway.port, method === 'HEAD')
        client.write(`${method} /x HTTP/${version}\r\nHost: a\r\nConnection: close\r\n\r\n`)
        await client.closed()
        const text = client.received()
        if (text !== '' && !/^HTTP\/1\.1 [1-9][0-9][0-9] /.test(text))
          throw new Error(`not HTTP: ${JSON.stringify(text)}`)
        client.responses()
      },
    ),
    { numRuns: 400 },
  )
  const { responses } = await rawExchange(gateway.port, 'GET /well HTTP/1.1\r\nHost: a\r\n\r\n')
  t.match(responses, [{ status: 200, body: 'well' }])
  t.strictSame(gateway.logged, [])
  t.equal(gateway.watchdog.size(), 0, 'nothing is left under way')
})

t.test('a response that ends with its head is passed on, whatever it says of a body', async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    const [, status, framing] = request.target.split('/')
    respond(
      request,
      `HTTP/1.1 ${status} X\r\nX-Kept: yes\r\n${framing!.replaceAll('_', '\r\n').replaceAll('-:', ': ')}\r\n\r\n`,
    )
  })
  const framings = [
    'Content-Length-:5',
    'Transfer-Encoding-:chunked',
    'Transfer-Encoding-:gzip',
    'Content-Length-:5_Transfer-Encoding-:chunked',
    'Content-Length-:5_Content-Length-:6',
  ]
  for (const face of await startFaces(t, yamlFor(upstream.origin))) {
    if (face.name === 'upgrade') continue
    for (const framing of framings) {
      for (const [status, method] of [
        [204, 'DELETE'],
        [304, 'GET'],
        [200, 'HEAD'],
      ] as const) {
        const answer = await face.ask({ method, target: `/${status}/${framing}` })
        t.equal(answer.status, status, `${face.name} ${method} ${framing}`)
        t.equal(answer.header('x-kept'), 'yes')
        t.equal(answer.body, '')
        t.equal(answer.header('transfer-encoding'), undefined, `${face.name} ${method} ${framing}`)
        if (status === 204) t.equal(answer.header('content-length'), undefined)
      }
    }
    t.equal(
      face.gateway.upstreams.describe()[0]!.state,
      'serving',
      `${face.name}: nothing of it counts against the upstream`,
    )
  }
})

t.test('an unrequested 100, an empty line and chunk extensions change nothing, on any face', async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    respond(request, '\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    respond(request, '2;a="b;c"\r\nok\r\n0 ;x\r\n\r\n')
  })
  for (const face of await startFaces(t, yamlFor(upstream.origin))) {
    if (face.name !== 'upgrade') t.match(await face.ask(), { status: 200, body: 'ok' }, face.name)
  }
})
