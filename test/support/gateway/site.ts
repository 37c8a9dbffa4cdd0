import type { Test } from 'tap'
import type { ErrorCode } from '../../../src/errors.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'
import { type RawResponse, rawExchange } from '../http/raw.js'
import { type RecordingUpstream, recordingUpstream } from '../http/upstream.js'
import { type Overrides, startGateway, type TestGateway } from './gateway.js'

/** A gateway in front of two upstreams that remember their requests. */
export interface Site {
  readonly gateway: TestGateway
  readonly payments: RecordingUpstream
  readonly marketing: RecordingUpstream
  /** Returns everything that reached either upstream. */
  received(): number
}

/** @param yaml further top-level keys, or replacements of the ones here */
export async function startSite(
  t: Test,
  yaml: string,
  { payments, marketing }: Partial<Pick<Site, 'payments' | 'marketing'>> = {},
  overrides: Overrides = {},
): Promise<Site> {
  const first = payments ?? (await recordingUpstream(t))
  const second = marketing ?? (await recordingUpstream(t))
  const text = yaml.replaceAll('PAYMENTS', first.origin).replaceAll('MARKETING', second.origin)
  const gateway = await startGateway(t, text, overrides)
  return {
    gateway,
    payments: first,
    marketing: second,
    received: () => first.received.length + second.received.length,
  }
}

export interface Refused {
  readonly status: number
  readonly code: ErrorCode
}

/**
 * Sends bytes that must be refused: with this response, `Connection: close`, a closed connection and one record, while nothing reaches an
 * upstream.
 *
 * @returns the response and its record
 */
export async function expectRefused(
  t: Test,
  site: Site,
  what: string,
  bytes: string,
  { status, code }: Refused,
): Promise<{ response: RawResponse; record: RequestRecord }> {
  const { gateway } = site
  const recorded = gateway.records.length
  const received = site.received()
  const { responses, closed } = await rawExchange(gateway.port, bytes)
  await gateway.recorded(recorded + 1)
  const response = responses[0]!
  const record = gateway.records.at(-1)!
  t.equal(responses.length, 1, `${what}: one answer`)
  t.equal(response.status, status, `${what}: status`)
  t.equal(response.header('content-type'), 'application/problem+json', `${what}: problem`)
  t.equal(problemOf(response).code, code, `${what}: code`)
  t.equal(problemOf(response).request_id, response.header('x-request-id'), `${what}: request id`)
  t.equal(response.header('cache-control'), 'no-store', `${what}: no-store`)
  t.equal(response.header('connection'), 'close', `${what}: says close`)
  t.ok(closed, `${what}: is closed`)
  t.equal(site.received(), received, `${what}: nothing reached an upstream`)
  t.equal(gateway.records.length, recorded + 1, `${what}: is recorded once`)
  t.equal(gateway.accessLines.at(-1)?.requestId, record.requestId, `${what}: is in the access log`)
  t.match(
    record,
    { status, error: code, requestId: problemOf(response).request_id },
    `${what}: as what it is`,
  )
  return { response, record }
}

export interface Problem {
  readonly code: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly request_id: string
}

export function problemOf(response: RawResponse): Problem {
  return JSON.parse(response.body)
}
