import type { SourceOf } from '../../config/snapshot/consumers.js'
import type { ForwardCheck } from '../../config/snapshot/forward.js'
import { type AuthDenial, type AuthPass, type AuthVerdict, MISSING } from '../../credentials/auth-verdict.js'
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
  const parts = partsOf(x, check)
  if ('code' in parts) return parts
  if (auth === undefined) return unavailable(check, 'there is no client')
  const verdict = auth.ask(check, { parts, address: x.clientIp })
  return verdict instanceof Promise
    ? verdict.then((later) => follow(x, check, later, auth, identifies))
    : follow(x, check, verdict, auth, identifies)
}

function follow(
  x: Exchange,
  check: ForwardCheck,
  verdict: AuthVerdict,
  auth: Asking,
  identifies: boolean,
): Ending {
  if (verdict.kind === 'denied') return answerOf(check, verdict)
  if (verdict.kind === 'allowed') {
    x.authBy = check
    x.authPass = verdict
    return identifies ? identify(x, check, verdict, auth) : undefined
  }
  if (verdict.kind === 'failed' && check.open) {
    x.authBy = check
    return identifies ? identifyByIp(x) : undefined
  }
  return verdict.answer === undefined ? unavailable(check, verdict.why) : answerOf(check, verdict.answer)
}

function identify(
  x: Exchange,
  check: ForwardCheck,
  { consumer, tier, tenant }: AuthPass,
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

function answerOf({ name }: ForwardCheck, { status, fields, body }: AuthDenial): Answer {
  const answer = { status, fields, body, cause: `auth service ${name}` }
  return status === 401 ? { ...answer, countsAs: 'unauthorized' } : answer
}

function unavailable({ name }: ForwardCheck, why: string): Refusal {
  return { code: 'auth_unavailable', headers: ['Retry-After', '1'], cause: `auth service ${name}: ${why}` }
}

/** Returns the request as the service hears of it, or a refusal if two readers could understand it differently. */
function partsOf(x: Exchange, { headers: names }: ForwardCheck): string[] | Refusal {
  const { headers } = x
  const peer = plainAddress(x.peer)
  const parts = [
    x.method,
    headers.forwardedHost ?? headers.host ?? '',
    x.path + x.query,
    x.clientIp,
    headers.forwardedProto ?? (x.secured === undefined ? 'http' : 'https'),
    headers.forwardedFor === undefined ? peer : `${headers.forwardedFor}, ${peer}`,
  ]
  for (const name of names) {
    const value = identityHeader(headers, name) ?? singleField(headers.forward, name)
    if (value === null) return { code: 'bad_header', detail: `The header ${name} may be sent only once.` }
    parts.push(value ?? MISSING)
  }
  return parts
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
