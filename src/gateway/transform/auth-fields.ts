import type { Exchange } from '../exchange/exchange.js'
import { removeField, sentField } from '../exchange/header-list.js'
import { identityHeader } from '../exchange/headers.js'

type GoesOn = (name: string) => boolean

/**
 * Removes the headers that an auth service should have checked or set, and has not.
 *
 * @param goesOn returns false for a header that the route sets or removes, or the gateway writes
 */
export function hideUnchecked(out: string[], { authBy }: Exchange, goesOn: GoesOn): void {
  const { headers, upstreamHeaders } = authBy!
  for (const name of [...headers, ...upstreamHeaders]) if (goesOn(name)) removeField(out, name)
}

/** Adds the credentials that an auth service has checked, and the headers that it sets in place of the client's. */
export function pushAuthFields(out: string[], x: Exchange, goesOn: GoesOn): void {
  const { headers, upstreamHeaders } = x.authBy!
  for (const name of headers) {
    const value = identityHeader(x.headers, name)
    if (value !== undefined && goesOn(name) && sentField(out, name) === undefined) out.push(name, value)
  }
  for (const name of upstreamHeaders) if (goesOn(name)) removeField(out, name)
  const { fields } = x.authPass!
  for (let i = 0; i < fields.length; i += 2)
    if (goesOn(fields[i]!.toLowerCase())) out.push(fields[i]!, fields[i + 1]!)
}

/** Adds the cookies that an auth service sets to a response. */
export function pushAuthCookies(out: string[], { authPass }: Exchange): void {
  if (authPass === undefined) return
  for (const cookie of authPass.cookies) out.push('Set-Cookie', cookie)
}
