import { preflightFields, preflightMethod } from './cors.js'
import type { Exchange } from './exchange.js'
import { pushValues } from './field-rules.js'
import type { Answer } from './own-answer.js'
import { shapeOwn } from './shape.js'

/**
 * What is answered by its route alone, before anybody asks who is calling: a browser's preflight, which cannot carry a
 * credential, and `respond`.
 */
export function answerHere(x: Exchange): Answer | undefined {
  const shape = x.route!.shape
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
