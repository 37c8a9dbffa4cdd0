import type { SourceOf } from '../../config/snapshot/consumers.js'
import type { Exchange } from '../exchange/exchange.js'
import { type Identified, isId, unauthorized } from './identify.js'

export function identifyByCertificate(x: Exchange, source: SourceOf<'client_certificate'>): Identified {
  const certificate = x.secured?.certificate
  if (certificate === undefined) return 'absent'
  if (!certificate.verified) return unauthorized('The client certificate is not trusted here.')
  const id = certificate.ids[source.id]
  if (id === undefined || !isId(id)) return unauthorized(`The client certificate has no ${source.id}.`)
  x.consumer = id
  x.identifiedBy = 'client_certificate'
  return undefined
}
