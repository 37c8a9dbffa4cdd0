import type { FieldRules, FieldValue } from '../../config/snapshot/shaping.js'
import type { Template, Variable } from '../../config/values/template.js'
import { plainAddress } from '../../net/address-key.js'
import type { Exchange } from '../exchange/exchange.js'
import { percentEncoded } from '../exchange/header-list.js'
import { plainName } from '../exchange/headers.js'

/** Applies the header rules of a route. All lists are flat: name, value, … */

/** Returns the remaining headers, with those that the rules add. */
export function applyRules({ drop, put }: FieldRules, fields: readonly string[], x: Exchange): string[] {
  const out: string[] = []
  for (let i = 0; i < fields.length; i += 2) {
    if (!isDropped(drop, fields[i]!)) out.push(fields[i]!, fields[i + 1]!)
  }
  pushValues(out, put, x)
  return out
}

/**
 * Returns true if a name is dropped. Its twin with `_` or the like is, too: CGI-style backends cannot tell the two
 * apart.
 */
function isDropped(drop: ReadonlySet<string>, wireName: string): boolean {
  const name = wireName.toLowerCase()
  return drop.has(name) || drop.has(plainName(name))
}

/** Adds headers. One whose value contains an unknown variable of this request is left out. */
export function pushValues(out: string[], values: readonly FieldValue[], x: Exchange): void {
  for (const { name, value } of values) {
    const text = render(value, x)
    if (text !== undefined) out.push(name, text)
  }
}

/**
 * Adds headers to the gateway's own response, without replacing its own: a refusal stays `application/problem+json`
 * whatever a route sets for its responses.
 */
export function pushMissing(out: string[], { put }: FieldRules, x: Exchange): void {
  const own = out.length
  for (const { name, lowerName, value } of put) {
    let there = false
    for (let i = 0; i < own; i += 2) if (out[i]!.toLowerCase() === lowerName) there = true
    const text = there ? undefined : render(value, x)
    if (text !== undefined) out.push(name, text)
  }
}

function render({ pieces }: Template, x: Exchange): string | undefined {
  let text = pieces[0]!
  for (let i = 1; i < pieces.length; i += 2) {
    const value = variable(pieces[i] as Variable, x)
    if (value === undefined) return undefined
    text += value + pieces[i + 1]!
  }
  return text
}

function variable(name: Variable, x: Exchange): string | undefined {
  switch (name) {
    case 'consumer':
      return x.consumer === undefined ? undefined : fieldText(x.consumer)
    case 'tier':
      return x.snapshot.tiers[x.tier]
    case 'request_id':
      return x.requestId
    case 'route':
      return fieldText(x.route!.label)
    case 'service':
      return x.route!.service.name
    case 'client_ip':
      // Before the client's address is resolved through the proxies, it may be that of a proxy.
      return x.identifiedBy === undefined ? undefined : fieldText(plainAddress(x.clientIp))
  }
}

const PLAIN = /^[!-$&-~]+$/

/**
 * Encodes text that may come from a client. Characters that could end a header, or be read in two ways, are
 * percent-encoded as UTF-8, and so is the percent sign itself: two ids never look the same.
 */
export function fieldText(text: string): string {
  return PLAIN.test(text) ? text : percentEncoded(text, 0x21)
}
