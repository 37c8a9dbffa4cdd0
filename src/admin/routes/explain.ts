import type { FastifyInstance } from 'fastify'
import type { ExplainQuestion } from '../../telemetry/decisions/explained-decision.js'
import { refuse } from '../access/problem.js'
import { FOR_VIEWERS } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { bodyWith } from './read-request.js'

/** Most bytes of a body: a request may have tokens of 8 KiB in its headers. */
const BODY_BYTES = 65_536

const FORM =
  'Send {"method":"GET","url":"/path","headers":[["name","value"]],"peer":"192.0.2.7"} as JSON. Only url is required.'

/** Adds the route that explains what would happen to a request, without sending it. Takes nothing from any quota. */
export function explainRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'explain'>): void {
  app.post('/explain', { ...FOR_VIEWERS, bodyLimit: BODY_BYTES }, ({ body }) =>
    deps.explain(questionIn(body) ?? refuse('bad_request', FORM)),
  )
}

function questionIn(body: unknown): ExplainQuestion | undefined {
  const asked = bodyWith(body, ['method', 'url', 'headers', 'peer'])
  if (asked === undefined) return undefined
  const { method = 'GET', url, headers = [], peer = '127.0.0.1' } = asked
  if (typeof method !== 'string' || typeof url !== 'string' || typeof peer !== 'string') return undefined
  if (!/^[A-Z]{1,32}$/.test(method) || url === '' || !Array.isArray(headers) || !headers.every(isField))
    return undefined
  return { method, url, headers, peer }
}

function isField(field: unknown): field is [string, string] {
  return Array.isArray(field) && field.length === 2 && field.every(isText)
}

/**
 * Returns true for text that a header can hold. Other text never reaches the rules of the gateway, so there is nothing
 * to explain.
 */
function isText(part: unknown): part is string {
  return typeof part === 'string' && !/[\0\r\n]/.test(part)
}
