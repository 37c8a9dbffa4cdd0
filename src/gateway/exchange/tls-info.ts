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
