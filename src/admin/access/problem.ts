import type { FastifyReply } from 'fastify'
import { PROBLEM_JSON } from '../../errors.js'

/** Errors of the admin server. Clients of the gateway never see them, so they are not in `errors.ts`. */
const PROBLEMS = {
  bad_request: [400, 'Bad request'],
  unauthorized: [401, 'Token missing or not valid'],
  forbidden: [403, 'Forbidden'],
  not_found: [404, 'Not found'],
  request_timeout: [408, 'Request timeout'],
  payload_too_large: [413, 'Payload too large'],
  unsupported_media_type: [415, 'Unsupported media type'],
  unprocessable: [422, 'Cannot be done'],
  too_many_attempts: [429, 'Too many wrong tokens'],
  headers_too_large: [431, 'Request header fields too large'],
  internal: [500, 'Internal error'],
  crowded: [503, 'Too many connections'],
  issuer_unavailable: [503, 'Identity provider out of reach'],
  store_frozen: [503, 'Store takes no changes at present'],
  store_unavailable: [503, 'Store out of reach'],
} as const satisfies Record<string, readonly [number, string]>

export type ProblemCode = keyof typeof PROBLEMS

/** Says what is wrong and what to do; `more` holds further members of the body. */
export interface Problem {
  readonly code: ProblemCode
  readonly detail: string
  readonly more?: object
}

/** Ends a request of the admin API with a problem. */
export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail)
  }
}

/** Ends the request. */
export function refuse(code: ProblemCode, detail: string, more?: object): never {
  throw new ProblemError(more === undefined ? { code, detail } : { code, detail, more })
}

export function statusOf(code: ProblemCode): number {
  return PROBLEMS[code][0]
}

/** Returns the `application/problem+json` body (RFC 9457). */
export function problemText({ code, detail, more }: Problem): string {
  const [status, title] = PROBLEMS[code]
  return JSON.stringify({ title, status, detail, code, ...more })
}

export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.code === 'store_frozen') reply.header('Retry-After', '5')
  // sent as bytes: to a string, Fastify adds a charset that the type does not define
  return reply
    .code(statusOf(problem.code))
    .type(PROBLEM_JSON)
    .send(Buffer.from(problemText(problem)))
}
