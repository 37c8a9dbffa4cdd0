import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import type { Test } from 'tap'
import { createAuthority, type Issued } from '../credentials/authority.js'
import { type EntranceSite, startEntrance } from './entrance.js'
import { openTlsClient } from './faces.js'
import { mutated } from './mutated-requests.js'
import { type RawUpstream, rawUpstream } from './raw-upstream.js'

/** Sends the same bytes over TLS to a gateway that reads requests itself, and to one whose requests Node reads. */

export interface TlsSite extends EntranceSite {
  readonly upstream: RawUpstream
  readonly port: number
  /** Returns the number of requests that Node's parser has read. */
  readByNode(): number
}

/** @param server keys of `server` */
export async function startTls(
  t: Test,
  certificate: Issued,
  server = '',
  alpn: readonly string[] = ['http/1.1'],
): Promise<TlsSite> {
  const upstream = await rawUpstream(t)
  // Named, so that it is on in the run without it, too.
  const paths = server.includes('plain_path') ? '' : 'plain_path: true, '
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /*, service: api }]
server: { tls: { certificates: [${JSON.stringify(certificate)}] }, ${paths}${server} }
`
  const site = await startEntrance(t, yaml, { alpn })
  let readByNode = 0
  site.gateway.app.server.on('request', () => readByNode++)
  return { ...site, upstream, port: site.gateway.port, readByNode: () => readByNode }
}

/** What came of the bytes of a connection. */
interface Outcome {
  /** Answers, without what differs each time. */
  readonly answers: readonly string[]
  readonly closed: boolean
  /** Complete requests that reached the upstream. */
  readonly forwarded: readonly string[]
}

export interface Plan {
  readonly bytes: Buffer
  /** Places at which a TLS record ends, in thousandths; after one with `pause` the gateway reads what has come. */
  readonly cuts: readonly { readonly at: number; readonly pause: boolean }[]
}

/** @param patience how long nothing has to come before it counts as all, in ms */
async function outcomeOf(
  { port, upstream }: TlsSite,
  { bytes, cuts }: Plan,
  patience: number,
): Promise<Outcome> {
  upstream.requests.length = 0
  const client = await openTlsClient(port, false)
  let from = 0
  for (const { at, pause } of [...cuts].sort((a, b) => a.at - b.at)) {
    const place = Math.floor((bytes.length * at) / 1000)
    if (place > from) client.socket.write(bytes.subarray(from, place))
    from = Math.max(from, place)
    if (pause) await sleep(1)
  }
  if (from < bytes.length) client.socket.write(bytes.subarray(from))
  let heard = -1
  while (!client.isClosed() && client.received().length > heard) {
    heard = client.received().length
    await client.closed(patience).catch(() => {})
  }
  const closed = client.isClosed()
  client.socket.destroy()
  const forwarded = upstream.requests.filter(({ complete }) => complete)
  return {
    answers: neutral(client.received()).split(/(?=HTTP\/1\.1 )/),
    closed,
    forwarded: forwarded.map(({ head, body }) => neutral(`${head}\r\n\r\n${body}`)).sort(),
  }
}

function neutral(text: string): string {
  return text
    .replace(/^(Date|X-Request-Id|traceparent): .*\r\n/gim, '')
    .replace(/"request_id":".*?"/g, '')
    .replace(/127\.0\.0\.1:\d+/g, 'upstream')
}

/** Bytes of up to three requests, mutated ones among them. */
export const plans: fc.Arbitrary<Plan> = fc.record({
  bytes: fc.array(mutated, { minLength: 1, maxLength: 3 }).map((all) => Buffer.concat(all)),
  cuts: fc.array(fc.record({ at: fc.integer({ min: 0, max: 1000 }), pause: fc.boolean() }), { maxLength: 3 }),
})

export interface Pair {
  readonly plain: TlsSite
  readonly node: TlsSite
}

export async function startPairs(t: Test, count: number): Promise<readonly Pair[]> {
  const certificate = createAuthority(t).issue('api', 'DNS:api.example')
  return Promise.all(
    Array.from({ length: count }, async () => ({
      plain: await startTls(t, certificate),
      node: await startTls(t, certificate, 'plain_path: false'),
    })),
  )
}

/** @throws Error if the two gateways of a pair forward or answer something else */
export async function checkSame({ plain, node }: Pair, plan: Plan): Promise<void> {
  let differ = ''
  // A wait that was too short may have cut one of the two off.
  for (const patience of [25, 250, 2_500]) {
    const own = await outcomeOf(plain, plan, patience)
    const expected = await outcomeOf(node, plan, patience)
    if (isDeepStrictEqual(own, expected)) return
    differ = `${JSON.stringify(own)} instead of ${JSON.stringify(expected)}`
  }
  throw new Error(`${JSON.stringify(plan.bytes.toString('latin1'))}: ${differ}`)
}
