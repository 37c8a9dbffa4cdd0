import type { Route } from '../../config/snapshot/snapshot.js'
import type { Refusal } from '../../errors.js'
import { hostName } from '../exchange/authority.js'
import type { Exchange } from '../exchange/exchange.js'
import { onlyField, replaceField } from '../exchange/header-list.js'
import type { Answer } from '../respond/send-response.js'
import { preflightFields, preflightMethod } from '../transform/cors.js'
import { pushValues } from '../transform/header-rules.js'
import { shapeOwn } from '../transform/response-headers.js'

const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'
const SERVER: Answer = { status: 204, fields: ['Allow', METHODS], body: '' }

/** Answers `OPTIONS *`, which asks about the server as a whole and has no route (RFC 9110 §9.3.7). */
export function answerAsterisk(x: Exchange): Answer | Refusal | undefined {
  if (x.target !== '*' || x.method !== 'OPTIONS') return undefined
  const { host } = x.headers
  if (host !== undefined && hostName(host) === undefined) return { code: 'bad_host' }
  return SERVER
}

/**
 * Answers what the route alone can answer, before the caller is identified: a browser's preflight, which cannot carry a
 * credential, and `respond`.
 */
export function respondDirectly(x: Exchange): Answer | undefined {
  const shape = x.route!.shape
  if (x.method === 'OPTIONS' && (shape?.cors === undefined || preflightMethod(x) === undefined)) {
    const answer = countForward(x, x.route!)
    if (answer !== undefined) return answer
  }
  if (shape === undefined) return undefined
  const { cors, respond } = shape
  if (cors !== undefined && preflightMethod(x) !== undefined) {
    return { status: 204, fields: preflightFields(cors, x), body: '' }
  }
  if (respond === undefined) return undefined
  const fields: string[] = []
  pushValues(fields, respond.fields, x)
  shapeOwn(fields, shape, x)
  return { status: respond.status, fields, body: respond.body }
}

/** Highest value with which Max-Forwards is passed on. */
const MOST_FORWARDS = 2 ** 31 - 1

/** Counts Max-Forwards down by one. At 0 the request ends here, and the gateway answers it (RFC 9110 §7.6.2). */
function countForward({ headers }: Exchange, { methods }: Route): Answer | undefined {
  const said = onlyField(headers.forward, 'max-forwards')
  if (said === undefined || !/^[0-9]+$/.test(said)) return undefined
  const left = Number(said)
  if (left > 0) {
    replaceField(headers.forward as string[], 'max-forwards', String(Math.min(left - 1, MOST_FORWARDS)))
    return undefined
  }
  return { status: 204, fields: ['Allow', methods.length === 0 ? METHODS : methods.join(', ')], body: '' }
}
