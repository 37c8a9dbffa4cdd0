import type { Shape } from '../../config/snapshot/shaping.js'
import type { Exchange } from '../exchange/exchange.js'
import { pushCors, withoutCors } from './cors.js'
import { applyRules, pushMissing } from './header-rules.js'

/** The header of an upstream's response, as its route wants it: flat name, value, … */
export function shapeResponse(fields: string[], { response, cors }: Shape, x: Exchange): string[] {
  let out = fields
  if (cors !== undefined) out = withoutCors(out)
  if (response !== undefined) out = applyRules(response, out, x)
  if (cors !== undefined) pushCors(out, cors, x)
  return out
}

/** The same for a refusal: what the route adds, and who may read it. */
export function shapeOwn(fields: string[], { response, cors }: Shape, x: Exchange): void {
  if (response !== undefined) pushMissing(fields, response, x)
  if (cors !== undefined) pushCors(fields, cors, x)
}
