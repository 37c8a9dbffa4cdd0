import type { Shape } from '../../config/snapshot/shaping.js'
import type { Exchange } from '../exchange/exchange.js'
import { pushCors, withoutCors } from './cors.js'
import { applyRules, pushMissing } from './header-rules.js'

/** Applies the route's rules to the headers of an upstream's response: flat name, value, … */
export function shapeResponse(fields: string[], { response, cors }: Shape, x: Exchange): string[] {
  let out = fields
  if (cors !== undefined) out = withoutCors(out)
  if (response !== undefined) out = applyRules(response, out, x)
  if (cors !== undefined) pushCors(out, cors, x)
  return out
}

/** Applies them to a refusal: the route's headers, and those of CORS. */
export function shapeOwn(fields: string[], { response, cors }: Shape, x: Exchange): void {
  if (response !== undefined) pushMissing(fields, response, x)
  if (cors !== undefined) pushCors(fields, cors, x)
}
