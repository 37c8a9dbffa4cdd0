import type { SourceOf } from '../../config/snapshot/consumers.js'
import type { ForwardCheck } from '../../config/snapshot/forward.js'
import type { AuthRequest, AuthVerdict } from '../../credentials/auth-verdict.js'
import type { ForwardAuth } from '../../credentials/forward-auth.js'
import type { Refusal } from '../../errors.js'
import { plainAddress } from '../../net/address-key.js'
import type { Exchange } from '../exchange/exchange.js'
import { identityHeader } from '../exchange/headers.js'
import type { Answer } from '../respond/send-response.js'
import { identifyByIp } from './ip.js'

export type Asking = Pick<ForwardAuth, 'ask' | 'unknownTier'>

/** How a request ends, or undefined if it goes on. */
export type Ending = Refusal | Answer | undefined

/** Identifies the client by a service that checks its credential. */
export function identifyByForward(
  x: Exchange,
  { check, headers, always }: SourceOf<'forward'>,
  auth: Asking | undefined,
): Ending | 'absent' | Promise<Ending> {
  if (!always && headers.every((name) => identityHeader(x.headers, name) === undefined)) return 'absent'
  return askService(x, check, auth, true)
}

/**
 * Asks a service whether a request may pass.
 *
 * @param identifies true if its decision also identifies the client
 */
export function askService(
  x: Exchange,
  check: ForwardCheck,
  auth: Asking | undefined,
  identifies: boolean,
): Ending | Promise<Ending> {
  const request = requestFor(x, check)
  if ('code' in request) return request
  const verdict = auth?.ask(check, request) ?? NOBODY
  return verdict instanceof Promise
    ? verdict.then((later) => follow(x, check, later, auth, identifies))
    : follow(x, check, verdict, auth, identifies)
}

const NOBODY: AuthVerdict = { kind: 'busy', why: 'there is no client' }

function follow(
  x: Exchange,
  check: ForwardCheck,
  verdict: AuthVerdict,
  auth: Asking | undefined,
  identifies: boolean,
): Ending {
  switch (verdict.kind) {
    case 'allowed':
      x.authBy = check
      x.authPass = verdict
      return identifies ? identify(x, check, verdict, auth!) : undefined
    case 'denied':
      return answerOf(check, verdict)
    case 'failed':
      if (check.open) {
        x.authBy = check
        return identifies ? identifyByIp(x) : undefined
      }
      return verdict.answer === undefined ? unavailable(check, verdict.why) : answerOf(check, verdict.answer)
    case 'busy':
      return unavailable(check, verdict.why)
  }
}

function identify(
  x: Exchange,
  check: ForwardCheck,
  { consumer, tier, tenant }: Extract<AuthVerdict, { kind: 'allowed' }>,
  auth: Asking,
): Refusal | undefined {
  if (consumer === undefined) return unavailable(check, `its response has no usable ${check.identity!.id}`)
  x.identifiedBy = 'forward'
  x.consumer = consumer
  x.tenant = tenant
  if (tier === undefined) return undefined
  const index = x.snapshot.tiers.indexOf(tier)
  if (index >= 0) x.credentialTier = index
  else auth.unknownTier(check, tier)
  return undefined
}

function answerOf(
  { name }: ForwardCheck,
  { status, fields, body }: Pick<Extract<AuthVerdict, { kind: 'denied' }>, 'status' | 'fields' | 'body'>,
): Answer {
  const answer = { status, fields, body, cause: `auth service ${name}` }
  return status === 401 ? { ...answer, countsAs: 'unauthorized' } : answer
}

function unavailable({ name }: ForwardCheck, why: string): Refusal {
  return { code: 'auth_unavailable', headers: ['Retry-After', '1'], cause: `auth service ${name}: ${why}` }
}

/** Returns the request as the service hears of it, or a refusal if two readers could understand it differently. */
function requestFor(x: Exchange, { headers: names }: ForwardCheck): AuthRequest | Refusal {
  const { headers } = x
  const values: (string | undefined)[] = []
  for (const name of names) {
    const value = identityHeader(headers, name) ?? singleField(headers.forward, name)
    if (value === null) return { code: 'bad_header', detail: `The header ${name} may be sent only once.` }
    values.push(value)
  }
  const peer = plainAddress(x.peer)
  return {
    method: x.method,
    scheme: headers.forwardedProto ?? (x.secured === undefined ? 'http' : 'https'),
    host: headers.forwardedHost ?? headers.host ?? '',
    uri: x.path + x.query,
    forwardedFor: headers.forwardedFor === undefined ? peer : `${headers.forwardedFor}, ${peer}`,
    address: x.clientIp,
    values,
  }
}

/** Returns the value of a header; null if there are several. Only Cookie may come in pieces (RFC 9113 §8.2.3). */
function singleField(list: readonly string[], name: string): string | null | undefined {
  let found: string | undefined
  for (let i = 0; i < list.length; i += 2) {
    const wire = list[i]!
    if (wire.length !== name.length || wire.toLowerCase() !== name) continue
    if (found === undefined) found = list[i + 1]!
    else if (name === 'cookie') found += `; ${list[i + 1]}`
    else return null
  }
  return found
}
