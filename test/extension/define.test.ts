// Tests src/extension/{define,options,respond}.ts
import t from 'tap'
import {
  defineExtension,
  type Extension,
  type Hooks,
  type Reply,
  respond,
} from '../../src/extension/define.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(_: Equal<A, B>) => undefined

t.test('the options that create gets have the types of the schema', async (t) => {
  const extension = defineExtension({
    options: {
      type: 'object',
      properties: {
        threshold: { type: 'integer', minimum: 0 },
        mode: { type: 'string', enum: ['a', 'b'], default: 'a' },
        wait: { type: 'string', format: 'duration', default: '30s' },
        hosts: { type: 'array', items: { type: 'string' } },
        secrets: { type: 'object', additionalProperties: { type: 'string', secret: true } },
      },
      required: ['threshold'],
    },
    create({ options }) {
      same<
        typeof options,
        {
          readonly threshold: number
          readonly mode: 'a' | 'b'
          readonly wait: number
          readonly hosts?: readonly string[]
          readonly secrets?: Readonly<Record<string, string>>
        }
      >(true)
      return {}
    },
  })
  // The configuration hands over what the schema has checked.
  const create = extension.create as Extension<unknown>['create']
  t.strictSame(create({ options: {} } as never), {})
})

t.test('a hook may declare the body as what it asked for', async (t) => {
  const hooks: Hooks = {
    onRequest: { body: { max: '64kB', as: 'bytes' }, run: (_, body: Uint8Array) => respond(200, body) },
    cost: async (request) => request.limits.length + 1,
    onResponse(_, { status }) {
      return status === 200 ? { headers: { 'x-powered-by': null } } : undefined
    },
  }
  t.ok(hooks)
})

t.test('respond makes text, bytes, JSON and problems', async (t) => {
  const plain = { status: 200, body: undefined, problem: undefined, headers: [] }
  const cases: [Reply, object][] = [
    [respond(204), { ...plain, status: 204 }],
    [respond(200, 'ok'), { ...plain, body: 'ok', headers: ['content-type', 'text/plain; charset=utf-8'] }],
    [respond(200, { a: 1 }), { ...plain, body: '{"a":1}', headers: ['content-type', 'application/json'] }],
    [respond(403), { ...plain, status: 403, problem: {} }],
    [respond(403, { detail: 'no' }), { ...plain, status: 403, problem: { detail: 'no' } }],
    [
      respond(403, { detail: 'no', other: 1 }),
      {
        ...plain,
        status: 403,
        body: '{"detail":"no","other":1}',
        headers: ['content-type', 'application/json'],
      },
    ],
    [
      respond(302, undefined, { Location: '/x', 'Set-Cookie': ['a=1', 'b=2'], Via: null }),
      { ...plain, status: 302, headers: ['Location', '/x', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2'] },
    ],
  ]
  for (const [{ status, body, problem, headers }, wanted] of cases)
    t.strictSame({ status, body, problem, headers }, wanted)
  t.match(respond(200, Buffer.from('x')), { headers: ['content-type', 'application/octet-stream'] })
})

t.test('a problem may name its status', async (t) => {
  t.match(respond(403, { status: 403, detail: 'No.' }), { body: undefined, problem: { detail: 'No.' } })
})

t.test('respond refuses what cannot be sent', async (t) => {
  t.throws(() => respond(101), { message: 'respond: the status must be a whole number from 200 to 599' })
  t.throws(() => respond(200.5))
  t.throws(() => respond(200, '', { 'x-a': 'a\r\nb: c' }))
  t.throws(() => respond(200, '', { 'x a': 'a' }))
  t.throws(() => respond(200, '', { 'x-a': 1 as unknown as string }))
  t.throws(() => respond(200, '', { 'Content-Length': '3' }), {
    message: 'the header Content-Length is written by the gateway alone',
  })
  t.throws(() => respond(200, '', { 'X-Request-Id': 'mine' }))
  t.throws(() => respond(200, '', { 'x-a': 'x'.repeat(20_000) }), {
    message: 'the headers have more than 16384 characters',
  })
})
