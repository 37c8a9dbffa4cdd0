import { ERRORS } from '../../src/errors.js'
import { eventually } from '../support/eventually.js'
import type { TestGateway } from '../support/gateway/gateway.js'
import type { RawRequest, RawUpstream } from '../support/http/raw-upstream.js'
import { must } from './target.js'

/** A request line and header in the strictest grammar of RFC 9112 §3 and §5. */
const LINE = /^[A-Z-]+ \/[\x21-\x22\x24-\x7e\x80-\xff]* HTTP\/1\.1$/
const FIELD =
  /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+: (?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/
const ONCE = ['host', 'x-request-id', 'x-forwarded-for', 'x-forwarded-proto', 'via']
/** HTTP/1.0 may come without a Host. */
const AT_MOST_ONCE = ['x-forwarded-host', 'x-user-id', 'traceparent']
const NEVER = [
  'expect',
  'te',
  'trailer',
  'proxy-authorization',
  'x-original-url',
  'x-http-method-override',
  'x-real-ip',
]

/** Every status that the gateway itself answers with. */
export const OWN = new Set<number>(Object.values(ERRORS).map(({ status }) => status))

interface Known {
  readonly method: string
  readonly consumer: string | undefined
  readonly arrived?: boolean
}
const known = new WeakMap<TestGateway, Map<string, Known>>()
const KEPT = 2000

/**
 * Checks everything that arrived behind a gateway: each is one plain HTTP/1.1 request that the gateway recorded, for that consumer, and
 * none arrived twice. Forgets all of it afterwards.
 */
export async function checkReceived(gateway: TestGateway, upstream: RawUpstream): Promise<void> {
  await eventually('nothing is under way', () => gateway.watchdog.size() === 0)
  const arrived = upstream.requests.splice(0)
  const before = known.get(gateway) ?? new Map<string, Known>()
  known.set(gateway, before)
  const recordOf = (request: RawRequest): Known | undefined => {
    const [id] = request.values('x-request-id')
    return before.get(id!) ?? gateway.records.find(({ requestId }) => requestId === id)
  }
  await eventually('all is recorded', () => arrived.every((one) => recordOf(one) !== undefined)).catch(() => {
    const heads = arrived.filter((one) => recordOf(one) === undefined).map(({ head }) => head)
    throw new Error(`arrived without a record: ${JSON.stringify(heads)}`)
  })
  for (const request of arrived) {
    const { head, method } = request
    const [line, ...fields] = head.split('\r\n')
    const say = (what: string) => `${what}: ${JSON.stringify(head)}`
    must(LINE.test(line!), say('a request line that others may read otherwise'))
    for (const field of fields)
      must(FIELD.test(field), say(`a field that others may read otherwise (${field})`))
    for (const name of ONCE) must(request.values(name).length === 1, say(`not one ${name}`))
    for (const name of AT_MOST_ONCE) must(request.values(name).length <= 1, say(`more than one ${name}`))
    for (const name of NEVER) must(request.values(name).length === 0, say(`a ${name}`))
    const [length, coding] = [request.values('content-length'), request.values('transfer-encoding')]
    must(length.length + coding.length <= 1, say('two lengths'))
    must(
      length.every((value) => /^\d+$/.test(value)) && coding.every((value) => value === 'chunked'),
      say('a length'),
    )
    must(
      request.values('connection').every((value) => /^(?:keep-alive|close)$/i.test(value)),
      say('a connection'),
    )
    const [id] = request.values('x-request-id')
    const record = recordOf(request)!
    must(!before.get(id!)?.arrived, say('arrived twice'))
    before.set(id!, { method: record.method, consumer: record.consumer, arrived: true })
    must(record.method === method, say(`recorded as ${record.method}`))
    const users = request.values('x-user-id')
    must(users.length === 0 || users[0] === record.consumer, say(`counted as ${record.consumer}`))
  }
  must(gateway.logged.length === 0, `logged ${JSON.stringify(gateway.logged)}`)
  // A request may arrive after its client has left.
  for (const { requestId, method, consumer } of gateway.records) {
    if (!before.has(requestId)) before.set(requestId, { method, consumer, arrived: false })
  }
  for (const id of before.keys()) {
    if (before.size <= KEPT) break
    before.delete(id)
  }
  gateway.records.length = 0
  gateway.accessLines.length = 0
}
