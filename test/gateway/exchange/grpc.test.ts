import { once } from 'node:events'
import {
  type Metadata as GrpcMetadata,
  Metadata,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { ERRORS, type ErrorCode } from '../../../src/errors.js'
import { grpcStatus } from '../../../src/gateway/exchange/grpc.js'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { type EchoClient, grpcClient, grpcUpstream } from '../../support/http/grpc.js'
import { http2Client } from '../../support/http/http2-client.js'

/** Outcomes of calls at the server, by the text of their first message. */
const seen = new Map<string, string>()

const implementation = {
  unary(call: ServerUnaryCall<string, string>, reply: sendUnaryData<string>) {
    const { request, metadata } = call
    const trailer = new Metadata()
    trailer.set('x-trailer', 'behind')
    trailer.set('x-trailer-bin', Buffer.from([0, 1, 255]))
    if (request === 'fail') {
      reply({ code: status.FAILED_PRECONDITION, details: 'nicht möglich: 50 %', metadata: trailer })
      return
    }
    if (request === 'never') return
    const deadline = Number(call.getDeadline()) < Number.POSITIVE_INFINITY ? 'deadline' : 'none'
    seen.set(request, `${metadata.get('x-meta')} ${metadata.getMap()['x-forwarded-host'] ?? ''} ${deadline}`)
    reply(null, `${request}!`, trailer)
  },
  serverStream(call: ServerWritableStream<string, string>) {
    const header = new Metadata()
    header.set('x-header', 'in front')
    call.sendMetadata(header)
    for (let i = 0; i < 5; i++) call.write(`${call.request} ${i}`)
    if (call.request === 'breaks') call.emit('error', { code: status.DATA_LOSS, details: 'broken' })
    else if (call.request === 'endless') {
      call.on('cancelled', () => seen.set('endless', 'cancelled'))
    } else call.end()
  },
  clientStream(call: ServerReadableStream<string, string>, reply: sendUnaryData<string>) {
    const parts: string[] = []
    call.on('data', (part: string) => parts.push(part))
    call.on('end', () => reply(null, String(parts.length)))
  },
  bidi(call: ServerDuplexStream<string, string>) {
    call.on('data', (text: string) => call.write(`${text}?`))
    call.on('end', () => call.end())
  },
}

async function start(t: Test, { limit = 'unlimited', consumers = 'ip: {}', more = '' } = {}) {
  const origin = await grpcUpstream(t, implementation)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
consumers: [{ ${consumers} }]
services:
  echo: { upstreams: ["${origin}"], protocol: http2, limits: { free: ${limit} } }
  gone: { upstreams: ["http://127.0.0.1:9"], protocol: http2 }
routes:
  - { path: /test.Echo/*, service: echo${more} }
  - { path: /test.Gone/*, service: gone }
server: { http2: true }
`,
  )
  return { gateway, client: grpcClient(t, gateway.port) }
}

interface Outcome {
  readonly error: ServiceError | null
  readonly value: string | undefined
  readonly trailers: GrpcMetadata
}

function unary(client: EchoClient, text: string, options: object = {}): Promise<Outcome> {
  const metadata = new Metadata()
  metadata.set('x-meta', 'm')
  return new Promise((resolve) => {
    let answer: Pick<Outcome, 'error' | 'value'>
    const call = client.unary(text, metadata, options, (error: ServiceError | null, value?: string) => {
      answer = { error, value }
    })
    call.on('status', ({ metadata: trailers }: { metadata: GrpcMetadata }) =>
      setImmediate(() => resolve({ ...answer, trailers })),
    )
  })
}

t.test('unary calls pass with their metadata and trailers', async (t) => {
  const { gateway, client } = await start(t)
  const { error, value, trailers } = await unary(client, 'hello', { deadline: Date.now() + 60_000 })
  t.same([error, value], [null, 'hello!'])
  t.same(trailers.get('x-trailer'), ['behind'])
  t.same(trailers.get('x-trailer-bin'), [Buffer.from([0, 1, 255])])
  t.equal(seen.get('hello'), `m 127.0.0.1:${gateway.port} deadline`)
  t.match(gateway.records[0], { status: 200, error: undefined, method: 'POST', target: '/test.Echo/Unary' })
})

t.test('an error of the server arrives unchanged', async (t) => {
  const { client } = await start(t)
  const { error } = await unary(client, 'fail')
  t.match(error, { code: status.FAILED_PRECONDITION, details: 'nicht möglich: 50 %' })
  t.same(error?.metadata.get('x-trailer'), ['behind'])
})

t.test('streams pass from the server, to it, and both ways', async (t) => {
  const { client } = await start(t)
  const down = client.serverStream('n')
  const parts: string[] = []
  down.on('data', (part: string) => parts.push(part))
  const [header] = await once(down, 'metadata')
  t.same(header.get('x-header'), ['in front'])
  await once(down, 'end')
  t.same(parts, ['n 0', 'n 1', 'n 2', 'n 3', 'n 4'])

  const up = new Promise<string>((resolve, reject) => {
    const call = client.clientStream((error, value) => (error ? reject(error) : resolve(value!)))
    for (let i = 0; i < 100; i++) call.write('x'.repeat(10_000))
    call.end()
  })
  t.equal(await up, '100')

  const both = client.bidi()
  for (const text of ['one', 'two', 'three']) {
    both.write(text)
    // Each message is answered before the next is sent.
    const [answer] = await once(both, 'data')
    t.equal(answer, `${text}?`)
  }
  both.end()
  const [{ code }] = await once(both, 'status')
  t.equal(code, status.OK)
})

t.test('a stream that breaks in the middle says why', async (t) => {
  const { client } = await start(t)
  const down = client.serverStream('breaks')
  let parts = 0
  down.on('data', () => parts++)
  const [error] = await once(down, 'error')
  t.match(error, { code: status.DATA_LOSS, details: 'broken' })
  t.equal(parts, 5)
})

t.test('a call that is cancelled, or past its deadline, is cancelled at the server', async (t) => {
  const { gateway, client } = await start(t)
  const down = client.serverStream('endless')
  down.on('error', () => {})
  await once(down, 'data')
  down.cancel()
  await eventually('the server hears of it', () => seen.get('endless') === 'cancelled')
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 200, error: 'client_closed' })
  const { error } = await unary(client, 'never', { deadline: Date.now() + 1_500 })
  t.equal(error?.code, status.DEADLINE_EXCEEDED)
  await gateway.recorded(2)
  t.match(gateway.records[1], { status: 499, error: 'client_closed' })
})

t.test('a refusal of the gateway has a gRPC status, and details', async (t) => {
  const { gateway, client } = await start(t, { limit: '1/min' })
  t.equal((await unary(client, 'a')).value, 'a!')
  const { error } = await unary(client, 'b')
  t.match(error, { code: status.RESOURCE_EXHAUSTED, details: /^The quota "minute" \(1 per 60 s\)/ })
  t.match(error?.metadata.get('retry-after'), [/^\d+$/])
  await gateway.recorded(2)
  t.match(
    gateway.records[1],
    { status: 429, error: 'quota_exceeded' },
    'log and metrics know it as what it is',
  )

  const raw = await http2Client(t, gateway.origin)
  const grpc = { ':method': 'POST', 'content-type': 'application/grpc+proto', te: 'trailers' }
  for (const [path, code] of [
    ['/test.Other/Unary', status.UNIMPLEMENTED],
    ['/test.Gone/Unary', status.UNAVAILABLE],
  ] as const) {
    const answer = await raw.ask(path, grpc, 'x')
    t.match(answer, {
      status: 200,
      body: '',
      headerOnly: true,
      headers: { 'content-type': 'application/grpc' },
    })
    t.equal(answer.headers['grpc-status'], String(code), path)
    t.equal(typeof answer.headers['x-request-id'], 'string')
  }
  t.match(await raw.ask('/nowhere', { ':method': 'POST', 'content-type': 'application/grpc-web' }, 'x'), {
    status: 404,
  })
  t.match(await raw.ask('/nowhere'), { status: 404 })
})

t.test('a call without a credential is UNAUTHENTICATED while its client still streams', async (t) => {
  const { client } = await start(t, { consumers: 'api_key: { keys: [{ key: k, consumer: acme }] }' })
  const error = await new Promise<ServiceError>((resolve) => {
    const call = client.clientStream((error) => resolve(error!))
    call.write('x')
  })
  t.match(error, { code: status.UNAUTHENTICATED })
})

t.test('every error code has a gRPC status', async (t) => {
  const expected = new Map<number, number>([
    [400, status.INTERNAL],
    [401, status.UNAUTHENTICATED],
    [403, status.PERMISSION_DENIED],
    [404, status.UNIMPLEMENTED],
    [429, status.RESOURCE_EXHAUSTED],
    [502, status.UNAVAILABLE],
    [503, status.UNAVAILABLE],
  ])
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const known = expected.get(ERRORS[code].status)
    if (known === undefined) t.ok(grpcStatus(code) >= 1 && grpcStatus(code) <= 16, code)
    else t.equal(grpcStatus(code), known, code)
  }
})
