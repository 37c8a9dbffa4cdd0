import type { TLSSocket } from 'node:tls'
import { alternativeNames } from '../../config/snapshot/certificates.js'
import type { CertificateId } from '../../config/snapshot/consumers.js'

interface ClientCertificate {
  /** True if a CA of `client_ca` vouches for it and it is valid now. */
  readonly verified: boolean
  /** Values that can identify its owner; undefined if it has none, or several common names. */
  readonly ids: Readonly<Record<CertificateId, string | undefined>>
}

/** Properties of an encrypted connection. */
export interface Secured {
  /** Certificate of the client, if it sent one. */
  readonly certificate: ClientCertificate | undefined
  /** Value of Strict-Transport-Security in every response; undefined: none. */
  readonly hsts?: string | undefined
}

const SECURED = Symbol('secured')
interface MaybeSecured {
  [SECURED]?: Secured
}

/** Returns the properties; undefined for a plain-text connection. */
export function securedOf(socket: object): Secured | undefined {
  return (socket as MaybeSecured)[SECURED]
}

export function setSecured(socket: object, secured: Secured): void {
  ;(socket as MaybeSecured)[SECURED] = secured
}

/** Adds Strict-Transport-Security (RFC 6797) to a response over TLS, unless it has one. */
export function pushHsts(out: string[], secured: Secured | undefined): void {
  if (secured?.hsts === undefined) return
  for (let i = 0; i < out.length; i += 2) {
    if (out[i]!.toLowerCase() === HSTS) return
  }
  out.push('Strict-Transport-Security', secured.hsts)
}

export const HSTS = 'strict-transport-security'

/** Returns the certificate that the client has proven to own, if it sent one. Read once per connection. */
export function readClientCertificate(socket: TLSSocket): ClientCertificate | undefined {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return undefined
  const names = alternativeNames(certificate.subjectAltName)
  const first = (kind: string) => names.find(([of]) => of === kind)?.[1]
  const { CN: name } = certificate.toLegacyObject().subject as { CN?: string | string[] }
  return {
    verified: socket.authorized,
    ids: {
      subject_cn: typeof name === 'string' ? name : undefined,
      san_dns: first('DNS'),
      san_uri: first('URI'),
      san_email: first('email'),
      fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    },
  }
}
