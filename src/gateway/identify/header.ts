import type { SourceOf } from '../../config/snapshot/consumers.js'
import type { Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { identityHeader } from '../exchange/headers.js'
import { type Identified, isId, MAX_CREDENTIAL, unauthorized } from './identify.js'

/** Identifies the client by a header that a proxy sets. From an untrusted peer, the header counts as absent. */
export function identifyByHeader(x: Exchange, source: SourceOf<'header'>): Identified {
  const id = identityHeader(x.headers, source.header)
  if (id === undefined || !source.believes(x.peer)) return 'absent'
  const tenant = source.tenant === undefined ? undefined : identityHeader(x.headers, source.tenant)
  if (!isId(id)) return badId(source.header)
  if (tenant !== undefined && !isId(tenant)) return badId(source.tenant!)
  x.consumer = id
  x.tenant = tenant
  x.identifiedBy = 'header'
  return undefined
}

function badId(header: string): Refusal {
  return unauthorized(`The id in ${header} is empty or longer than ${MAX_CREDENTIAL} characters.`)
}
